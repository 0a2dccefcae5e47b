"""The generated pages: complete, committed as generated, and a difference is noticed."""

from __future__ import annotations

from pathlib import Path

from app.api.application import openapi_page
from app.documentation.pages import DOCS_DIR, generated_pages, stale_pages
from app.metrics import METRICS
from app.settings import setting_rows
from app.topics import TOPICS


def test_committed_pages_are_what_the_code_says() -> None:
    assert stale_pages(DOCS_DIR, {**generated_pages(), "openapi.json": openapi_page()}) == ()


def test_every_row_is_on_its_page() -> None:
    pages = generated_pages()
    assert [row.variable for row in setting_rows() if f"`{row.variable}`" not in pages["configuration.md"]] == []
    assert [topic.name for topic in TOPICS if f"`{topic.name}`" not in pages["topics.md"]] == []
    assert [metric.name for metric in METRICS if f"`{metric.name}`" not in pages["metrics.md"]] == []


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    pages = generated_pages()
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert stale_pages(tmp_path, pages) == ()
    (tmp_path / "topics.md").write_text("edited by hand", encoding="utf-8")
    (tmp_path / "metrics.md").unlink()
    assert set(stale_pages(tmp_path, pages)) == {"topics.md", "metrics.md"}
