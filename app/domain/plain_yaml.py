"""Safe reader of hand-written YAML: returns nodes with line numbers.

Aliases are refused, because a small file could expand into a large one. Deep nesting is refused, because it takes
quadratic time in the parser and deep recursion in its readers.
"""

from __future__ import annotations

from typing import Final

import yaml

# Nested flow collections take quadratic time: each level needs as many tokens as there are levels.
MAX_DEPTH: Final = 64


class NotPlain(Exception):
    """Error of a text that is not plain YAML; `line` counts from 1.

    Operator: correct the file in the line that the message names.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def compose(text: str) -> yaml.Node:
    """Return the root node of the only document in `text`. Raises NotPlain; nothing in the text is executed."""
    try:
        _check_events(text)
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotPlain(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise NotPlain(1, f"not valid YAML: {error}") from error
    except (ArithmeticError, LookupError, ValueError) as error:
        # PyYAML does not translate these errors, for example if an escape names no Unicode character.
        raise NotPlain(1, f"not valid YAML: {error}") from error
    if node is None:
        raise NotPlain(1, "the file is empty")
    return node


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise NotPlain(line, "aliases (*name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise NotPlain(line, "nested too deeply")
