"""The import contracts of pyproject.toml: each one refuses an import that is planted into the real import graph."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

from app.settings import ROOT

_TYPES: Final[Mapping[str, type[Contract]]] = {
    "layers": LayersContract,
    "independence": IndependenceContract,
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
}
# Packages of app/ that are no feature: the core, what features share, and what is above them.
_NO_FEATURES: Final = {
    *("domain", "inference", "pipeline", "ports", "streaming", "systems", "verbs"),
    *("api", "bench", "compose", "demo", "documentation"),
}
_PLANTED: Final = (
    # Each layer against the layer above it.
    ("Imports go one way", "schemas.records", "app.domain.images"),
    ("Imports go one way", "app.domain.images", "app.streaming.lane"),
    ("Imports go one way", "app.streaming.lane", "app.pipeline.score"),
    ("Imports go one way", "app.streaming.lane", "app.inference.engine"),
    ("Imports go one way", "app.systems.redis.index", "app.index.rebuild"),
    ("Imports go one way", "app.pipeline.archive", "app.archive.partitions"),
    ("Imports go one way", "app.serving.scoring", "app.api.bodies"),
    ("Imports go one way", "app.api.serve", "app.compose.bootstrap"),
    ("Features do not import each other", "app.rescoring.rescore", "app.ledger.audit"),
    # The neighbours of listed exceptions.
    ("Features do not import each other", "app.index.verb", "app.moderation.decisions"),
    ("Features do not import each other", "app.stack.local", "app.lake.iceberg.catalog"),
    ("No folder is part of a cycle", "app.errors", "app.settings"),
    ("No folder is part of a cycle", "app.lake.sql.views", "app.lake.verbs.views"),
    ("The core names no framework", "app.pipeline.score", "aiobotocore"),
    ("The core names no framework", "app.domain.images", "pyarrow"),
    ("Faust is named in agents, in its adapter and in the composition root", "app.pipeline.score", "faust"),
    ("Faust is named in agents, in its adapter and in the composition root", "app.systems.kafka.producer", "mode"),
    ("HTTP servers are named in the API", "app.serving.scoring", "fastapi"),
    ("Use cases of features reach topics through ports", "app.ledger.ledger", "app.systems.kafka.topic_log"),
    ("Use cases of features reach topics through ports", "app.pipeline.archive", "app.systems.kafka.producer"),
    ("HTTP servers are named in the API", "app.systems.http_health", "uvicorn"),
    ("The lake's libraries stay in the lake and in the archive", "app.ledger.audit", "duckdb"),
    ("The lake's libraries stay in the lake and in the archive", "app.lake.verbs.sql", "pyiceberg"),
)


@dataclass(frozen=True, slots=True)
class _Contracts:
    session: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]
    graph: grimp.ImportGraph

    def kept(self, name: str, importer: str = "", imported: str = "") -> bool:
        """Return whether a contract is kept when `importer` imports `imported` too."""
        # A contract changes the graph that it checks.
        graph = copy.deepcopy(self.graph)
        if importer:
            assert {importer, imported} <= graph.modules, f"{importer} or {imported} does not exist"
            graph.add_import(importer=importer, imported=imported)
        options = dict(self.options[name])
        contract = _TYPES[options["type"]](name, dict(self.session), options)
        return contract.check(graph, verbose=False).kept


@pytest.fixture(scope="module")
def contracts() -> _Contracts:
    read = read_configuration(str(ROOT / "pyproject.toml"))
    first, *others = read["session_options"]["root_packages"]
    graph = grimp.build_graph(first, *others, include_external_packages=True, cache_dir=None)
    return _Contracts(read["session_options"], {each["name"]: each for each in read["contracts_options"]}, graph)


def test_the_import_graph_keeps_every_contract(contracts: _Contracts) -> None:
    assert [name for name in contracts.options if not contracts.kept(name)] == []


@pytest.mark.parametrize(("name", "importer", "imported"), _PLANTED)
def test_a_planted_import_is_refused(contracts: _Contracts, name: str, importer: str, imported: str) -> None:
    assert not contracts.kept(name, importer, imported)


def test_every_contract_has_a_planted_import(contracts: _Contracts) -> None:
    assert {name for name, _, _ in _PLANTED} == set(contracts.options)


def test_every_package_is_named_in_the_contracts(contracts: _Contracts) -> None:
    """A feature that a contract forgets would be free to import anything."""
    packages = {path.parent.name for path in (ROOT / "app").glob("*/__init__.py")}
    features = {f"app.{name}" for name in packages - _NO_FEATURES}
    layers = " ".join(contracts.options["Imports go one way"]["layers"])
    named = {word for word in layers.split() if word.startswith("app.")}
    assert {f"app.{name}" for name in packages} - named == set()
    assert set(contracts.options["Features do not import each other"]["modules"]) == features
    servers = set(contracts.options["HTTP servers are named in the API"]["source_modules"])
    assert features - servers == set()
    lake = set(contracts.options["The lake's libraries stay in the lake and in the archive"]["source_modules"])
    assert features - lake == {"app.lake", "app.archive"}
