"""Rules of plain English that a machine can check: how a docstring begins, names of values, line length of docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

# A docstring begins with a verb in the imperative or with a noun phrase, not with a free relative clause.
_CLAUSES: Final = frozenset(
    {"what", "whatever", "who", "whoever", "whom", "whose", "which", "where", "wherever", "when", "whenever", "whether"}
    | {"how", "why", "of", "nothing", "such", "if"}
)
# Third-person verbs. "Return the key", not "Returns the key"; a class is a noun: "Counter of records".
_THIRD_PERSON: Final = frozenset(
    {"returns", "yields", "raises", "makes", "takes", "gives", "tells", "says", "holds", "keeps", "reads", "writes"}
    | {
        "decodes",
        "applies",
        "runs",
        "serves",
        "builds",
        "turns",
        "sends",
        "puts",
        "adds",
        "gets",
        "sets",
        "does",
        "has",
    }
    | {"is", "are", "checks", "finds", "brings", "counts", "stores", "loads", "starts", "stops"}
)
# Names that say how a value was obtained, not what it is.
_EMPTY_NAMES: Final = frozenset({"found", "told", "said", "one", "again"})

MAX_DOC_COLUMNS: Final = 120
# Lines that cannot be wrapped: code, tables, headings, comments, and a word (an address, a path) longer than a line.
_NOT_PROSE: Final = re.compile(r"\s{4,}|\||#|<!--|```")


def bad_docstrings(source: str) -> Iterator[str]:
    """Yield `line: first word` of each docstring that begins with a clause or with a third-person verb.

    Texts below assignments (docstrings of constants and fields) count too.
    """
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if text.split():
                    word = text.split()[0].strip(".,:;").lower()
                    if word in _CLAUSES or word in _THIRD_PERSON:
                        yield f"{statement.lineno}: {word}"


def bad_names(source: str) -> Iterator[str]:
    """Yield `line: name` of each value, parameter, field or function with a name that says nothing of it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
                pass
            case ast.alias(asname=str(name)):
                pass
            case _:
                continue
        if name.strip("_") in _EMPTY_NAMES:
            yield f"{getattr(node, 'lineno', 0)}: {name}"


def long_prose_lines(markdown: str) -> Iterator[int]:
    """Yield the numbers of prose lines with more than MAX_DOC_COLUMNS columns."""
    fenced = generated = False
    for number, line in enumerate(markdown.splitlines(), 1):
        fenced ^= line.startswith("```")
        if line.startswith("<!--"):
            generated = ": begin" in line
        if fenced or generated or _NOT_PROSE.match(line) or len(line) <= MAX_DOC_COLUMNS:
            continue
        if " " in line[:MAX_DOC_COLUMNS].strip():
            yield number
