"""Paths that texts of this repository name: in pages, docstrings and comments."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import takewhile
from typing import Final

# A path from the root: `app/lake/iceberg/rows.py`, `models/<name>/<version>/`.
_PATH: Final = re.compile(
    r"(?<![\w./<>~$*{}-])"
    r"(?:(?:app|agents|schemas|tests|docs|models|policies|deploy|bench|examples|requirements|console|\.ci)/[\w./*<>{},-]*"
    # A file by its name: `bootstrap.py`, `verbs/__init__.py`. Other endings are also those of files that users have.
    r"|[\w-][\w./-]*\.(?:py|md|avsc)\b)"
)
# A module or a name in it: `app.domain.claims.decide`.
_MODULE: Final = re.compile(r"(?<![\w./-])(?:app|agents|schemas|tests)(?:\.[a-z_]\w*)+")
_PATTERN: Final = frozenset("*<>{}")


def named_paths(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and path of each file or folder that `text` names. A pattern (`models/<name>/`) is cut before it."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _PATH.finditer(line):
            parts = match[0].rstrip(".,:").split("/")
            yield number, "/".join(takewhile(lambda part: not _PATTERN & set(part), parts))


def named_modules(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each module of ours, or name in a module, that `text` names."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _MODULE.finditer(line):
            yield number, match[0]


def prose(source: str) -> str:
    """Return `source` without its code: docstrings and comments, each on its line."""
    lines = [""] * (source.count("\n") + 1)
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    for offset, line in enumerate(text.split("\n")):
                        lines[statement.lineno - 1 + offset] += line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] += f" {token.string}"
    return "\n".join(lines)
