"""Tuning of garbage collection for long-lived processes."""

from __future__ import annotations

import gc


def settle_heap() -> None:
    """Exclude all current objects from garbage collection: they live until the end. Later collections are shorter."""
    gc.collect()
    gc.freeze()
