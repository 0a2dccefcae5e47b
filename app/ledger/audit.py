"""The audit: reads the ledger, waits for what is in flight when asked to, and says it in one line."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from app.ledger.ledger import LedgerReader
from app.ledger.sums import Ledger
from app.ports.clock import Clock

_PAUSE_SECONDS: Final = 1.0


async def audit(reader: LedgerReader, clock: Clock, *, wait_seconds: float) -> Ledger:
    """Return the ledger; while something is in flight or missing, read again until `wait_seconds` are over.

    A gap is looked at again too: a notification may be on its way in a queue that the ledger does not see.
    """
    deadline = clock.monotonic() + wait_seconds
    while True:
        ledger = await reader.read()
        finished = ledger.settled and ledger.balanced
        if finished or ledger.duplicated or clock.monotonic() >= deadline:
            return ledger
        await clock.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - clock.monotonic())))


def lines(ledger: Ledger) -> list[str]:
    """Return the ledger for people: the examples first, the sums last."""
    found = [
        f"{example.what}: {place(example.bucket, example.key)} {example.upload_id} {example.where}".replace("  ", " ")
        for example in ledger.examples
    ]
    if ledger.never_notified:
        found.append(f"never notified: {ledger.never_notified}; `./sightline reconcile` enqueues them")
    if ledger.other_dead_letters:
        found.append(f"open dead letters of records that are no uploads: {ledger.other_dead_letters}")
    if ledger.job_tasks or ledger.job_outcomes:
        found.append(
            f"jobs: tasks={ledger.job_tasks} outcomes={ledger.job_outcomes} "
            f"open_dead_letters={ledger.job_open_dead_letters} lost={ledger.job_lost} "
            f"duplicated={ledger.job_duplicated} in_flight={ledger.job_in_flight}"
        )
    sums = (
        f"uploads={ledger.uploads} outcomes={ledger.outcomes} open_dead_letters={ledger.open_dead_letters} "
        f"lost={ledger.lost} duplicated={ledger.duplicated}"
    )
    return [*found, sums + (f" in_flight={ledger.in_flight}" if ledger.in_flight else "")]


def as_json(ledger: Ledger) -> dict[str, Any]:
    """Return the ledger as one JSON object."""
    return {**dataclasses.asdict(ledger), "balanced": ledger.balanced, "settled": ledger.settled}


def place(bucket: str, key: str) -> str:
    """Return where an object lies, as people write it."""
    return f"s3://{bucket}/{key}" if bucket or key else "(no object named)"
