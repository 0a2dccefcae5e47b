"""Choice of the frames of an animation that are scored, by the time for which each is shown. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Chromium and Firefox show a frame with a delay of 10 ms or less for 100 ms (deferred_image_decoder.cc).
_SHORTEST_MS = 10
_DEFAULT_MS = 100


def shown_ms(delay_ms: int) -> int:
    """Return the time for which a browser shows a frame with delay `delay_ms`."""
    return _DEFAULT_MS if delay_ms <= _SHORTEST_MS else delay_ms


def choose_frames(delays_ms: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the indices of at most `most` frames, ascending.

    Chosen are the frame that is shown longest, the last, the first, and then repeatedly the frame that is farthest in
    time from all chosen frames. Ties go to the earliest frame, so the choice is deterministic.
    """
    count = len(delays_ms)
    if count <= most:
        return tuple(range(count))
    starts, at = [], 0
    lengths = [shown_ms(delay) for delay in delays_ms]
    for length in lengths:
        starts.append(at)
        at += length
    longest = max(range(count), key=lambda index: (lengths[index], -index))
    chosen: list[int] = []
    for index in (longest, count - 1, 0):
        if index not in chosen and len(chosen) < most:
            chosen.append(index)
    chosen.sort()
    while len(chosen) < most:
        farthest = max((index for index in range(count)), key=lambda index: (_distance(starts, chosen, index), -index))
        chosen.insert(bisect_left(chosen, farthest), farthest)
    return tuple(chosen)


def _distance(starts: Sequence[int], chosen: Sequence[int], index: int) -> int:
    """Return the time between the start of a frame and the nearest chosen one; -1 for a chosen one."""
    at = bisect_left(chosen, index)
    if at < len(chosen) and chosen[at] == index:
        return -1
    near = [abs(starts[index] - starts[chosen[side]]) for side in (at - 1, at) if 0 <= side < len(chosen)]
    return min(near)
