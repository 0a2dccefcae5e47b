"""Pages and files of the console, and the page of the OpenAPI document. They contain no data; it comes from /v1."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter
from starlette.responses import FileResponse, RedirectResponse, Response

from app.api.problems import Problem
from app.settings import ROOT

router = APIRouter(include_in_schema=False)
_CONSOLE: Final = ROOT / "console"
_DOCS: Final = Path(__file__).parents[1] / "docs_page"
_SWAGGER: Final = Path(fastapi_offline.__file__).parent / "static"
_PAGES: Final = frozenset({"", "queue", "flagged", "search", "image", "operations"})
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
# Revalidated at each visit and answered with 304 if unchanged, so a new release appears at once.
_CACHE: Final = {"Cache-Control": "no-cache"}
# Swagger UI writes styles into its elements and draws icons from data: addresses.
_DOCS_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/")
async def root() -> Response:
    """Redirect a browser to the console."""
    return RedirectResponse("/console")


@router.get("/console")
@router.get("/console/{page}")
async def console(page: str = "") -> Response:
    """Return the document of all pages."""
    if page not in _PAGES:
        raise Problem(404, "no_such_page", "the console has no such page")
    return _file(_CONSOLE / "shell.html")


@router.get("/console/static/{name}")
async def console_file(name: str) -> Response:
    """Return a script, style sheet or picture of the console."""
    if name not in _names(_CONSOLE / "static"):
        raise Problem(404, "no_such_page", "the console has no such file")
    return _file(_CONSOLE / "static" / name)


@router.get("/docs")
async def docs() -> Response:
    """Return the page that shows the OpenAPI document."""
    answer = _file(_DOCS / "docs.html")
    answer.headers["Content-Security-Policy"] = _DOCS_CSP
    return answer


@router.get("/docs/start.js")
async def docs_start() -> Response:
    """Return the script that starts that page."""
    return _file(_DOCS / "start.js")


@router.get("/docs/static/{name}")
async def docs_file(name: str) -> Response:
    """Return a file of Swagger UI."""
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise Problem(404, "no_such_page", "Swagger UI has no such file")
    return _file(_SWAGGER / name)


@cache
def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir() if path.suffix in _KINDS)


def _file(path: Path) -> Response:
    return FileResponse(path, media_type=_KINDS[path.suffix], headers=_CACHE)
