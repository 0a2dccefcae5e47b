"""Schemathesis against a running service: every operation of its document, bounded in examples and time."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import Status, events, from_schema

SEED = 20_240_607
PROBLEM_JSON = "application/problem+json"


@dataclass(slots=True)
class Findings:
    """What a run saw: answers by operation and status, and what is wrong, each once with a request that shows it."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    took: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    seconds: float = 0.0
    phases: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.answers.values())

    def statuses(self, operation: str) -> dict[int, int]:
        return {status: count for (name, status), count in self.answers.items() if name == operation}

    def blame(self, operation: str, what: str, shown: str) -> None:
        self.wrong.setdefault(f"{operation}: {what}", shown)

    def report(self) -> str:
        return "\n\n".join(f"{what}\n    {shown}" for what, shown in sorted(self.wrong.items()))


def fuzz(document: Mapping[str, Any], url: str, headers: Mapping[str, str], config: Mapping[str, Any]) -> Findings:
    """Run the engine to its end; blocks for as long as it takes."""
    whole = {
        "seed": SEED,
        "base-url": url,
        "headers": dict(headers),
        "workers": 1,
        "continue-on-failure": True,
        "cache": {"enabled": False},
        "output": {"sanitization": {"enabled": False}},
        **config,
    }
    loaded = schemathesis.openapi.from_dict(dict(document), config=SchemathesisConfig.from_dict(whole))
    found = Findings()
    for event in from_schema(loaded).execute():
        match event:
            case events.ScenarioFinished():
                _note(found, event)
            case events.NonFatalError() | events.FatalError():
                found.blame(getattr(event, "label", "engine"), "the engine failed", str(getattr(event, "info", event)))
            case events.EngineFinished():
                found.seconds = event.running_time
            case events.PhaseFinished():
                found.phases.append(f"{event.phase.name.value}: {event.status.value}")
            case _:
                pass
    return found


def _note(found: Findings, event: events.ScenarioFinished) -> None:
    recorder, name = event.recorder, event.label or event.recorder.label
    found.took[name] += event.elapsed_time
    for interaction in recorder.interactions.values():
        if (response := interaction.response) is not None:
            found.answers[name, response.status_code] += 1
            for fault in problem_faults(response):
                found.blame(name, f"{response.status_code} {fault}", _shown(response))
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                response = recorder.find_response(case_id=case_id)
                status = response.status_code if response is not None else 0
                failure = check.failure_info.failure
                what = " ".join(f"{failure.title} {failure.message}".split())[:300]
                found.blame(name, f"{check.name} ({status}): {what}", check.failure_info.code_sample[:900])


def problem_faults(response: Response) -> Sequence[str]:
    """Return what is wrong with an answer that is no success."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return ()
    kind = (response.headers.get("content-type") or ["none"])[0]
    if kind != PROBLEM_JSON:
        return (f"is {kind}",)
    told = json.loads(response.content)
    wrong = []
    if told["status"] != response.status_code:
        wrong.append("tells another status")
    if told["type"] != f"urn:sightline:problem:{told['code']}":
        wrong.append("has another type than its code")
    if [told["request_id"]] != response.headers.get("x-request-id"):
        wrong.append("has another request id than its header")
    if response.status_code in (429, 503) and "retry-after" not in response.headers:
        wrong.append("has no Retry-After")
    return wrong


def _shown(response: Response) -> str:
    request = response.request
    return f"{request.method} {request.url} → {response.content[:300]!r}"
