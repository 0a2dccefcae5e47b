"""Groups of the command line that import the module of a verb only to run it: the help reads a table alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer._click import Command, Context
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Verb:
    """Row of a table of verbs: its name, the module whose `register(cli)` adds it, and its line in the help."""

    name: str
    module: str
    help: str


class _Commands(MutableMapping[str, Command]):
    """Commands by name. Only reading a value imports its module."""

    def __init__(self, verbs: Sequence[Verb]) -> None:
        self.verbs = {verb.name: verb for verb in verbs}
        self._loaded: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._loaded:
            cli = typer.Typer(pretty_exceptions_enable=False)
            importlib.import_module(self.verbs[name].module).register(cli)
            self._loaded[name] = get_group(cli).commands[name]
        return self._loaded[name]

    def __setitem__(self, name: str, command: Command) -> None:
        raise TypeError(f"{name}: add a row to the table of verbs instead")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: remove its row from the table of verbs instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self.verbs)

    def __len__(self) -> int:
        return len(self.verbs)


def lazy_group(*verbs: Verb) -> type[TyperGroup]:
    """Return the class of a group of `verbs`, in their order, for `typer.Typer(cls=…)`."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands: MutableMapping[str, Command] = _Commands(verbs)

        def list_commands(self, ctx: Context) -> list[str]:
            return list(self.commands)

        def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
            """Return what the help and the search for a name need of a verb, without its module."""
            line = next((verb.help for verb in verbs if verb.name == cmd_name), None)
            return None if line is None else TyperCommand(cmd_name, help=line)

        def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
            name, _, rest = super().resolve_command(ctx, args)
            return name, None if name is None else self.commands[name], rest

    return LazyGroup
