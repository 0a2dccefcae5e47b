"""Sets of Kafka offsets as bits, one set for each partition: what lets `lake verify` compare a topic with its table.

One bit for each offset in pages of 2^20 offsets (128 KiB), made when they are first touched: 300 million offsets are
287 pages, 37.5 MB a set. A comparison holds two sets of the whole (records, rows) and some that are small (doubles,
what is recent): about 75 MB for 300 million records, and the size of a record or row plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

PAGE_OFFSETS: Final = 1 << 20
_PAGE_BYTES: Final = PAGE_OFFSETS // 8

Offsets: TypeAlias = npt.NDArray[np.int64]
_Page: TypeAlias = npt.NDArray[np.uint8]


def offsets_of(numbers: Iterable[int]) -> Offsets:
    """Return numbers as an array of offsets."""
    return np.fromiter(numbers, np.int64)


class OffsetBits:
    """A set of offsets that are not negative."""

    def __init__(self, pages: dict[int, _Page] | None = None) -> None:
        self._pages: dict[int, _Page] = {} if pages is None else pages

    def __len__(self) -> int:
        return sum(int(np.bitwise_count(page).sum(dtype=np.int64)) for page in self._pages.values())

    @property
    def nbytes(self) -> int:
        """Bytes that the bits take."""
        return len(self._pages) * _PAGE_BYTES

    def add(self, offsets: Offsets) -> Offsets:
        """Put `offsets` in, and return those that were in already or came more than once: each as often as it was."""
        if not len(offsets):
            return offsets
        found, again = offsets, []
        # In order, as they mostly come, they need no sorting.
        if not (offsets[1:] > offsets[:-1]).all():
            found, counts = np.unique(offsets, return_counts=True)
            again.append(np.repeat(found, counts - 1))
        numbers = found >> 20
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(found)], strict=True):
            page = self._pages.setdefault(int(numbers[start]), np.zeros(_PAGE_BYTES, np.uint8))
            within = found[start:end] & (PAGE_OFFSETS - 1)
            at, masks = within >> 3, (1 << (within & 7)).astype(np.uint8)
            known = (page[at] & masks) != 0
            if known.any():
                again.append(found[start:end][known])
            # Sorted, so that bits of one byte stand together and are joined before they are written.
            first = np.flatnonzero(np.diff(at, prepend=-1))
            page[at[first]] |= np.bitwise_or.reduceat(masks, first)
        return np.concatenate(again) if again else np.empty(0, np.int64)

    def contains(self, offsets: Offsets) -> npt.NDArray[np.bool_]:
        """Return for each of `offsets` whether it is in."""
        found = np.zeros(len(offsets), np.bool_)
        numbers = offsets >> 20
        for number in np.unique(numbers):
            page = self._pages.get(int(number))
            if page is not None:
                here = numbers == number
                within = offsets[here] & (PAGE_OFFSETS - 1)
                found[here] = (page[within >> 3] >> (within & 7).astype(np.uint8)) & 1
        return found

    def minus(self, *others: OffsetBits) -> OffsetBits:
        """Return what is in here and in none of `others`."""
        pages = {}
        for number, page in self._pages.items():
            left = page
            for other in others:
                if number in other._pages:
                    left = left & ~other._pages[number]
            if left.any():
                pages[number] = left.copy() if left is page else left
        return OffsetBits(pages)

    def both(self, other: OffsetBits) -> OffsetBits:
        """Return what is in here and in `other`."""
        pages = {
            number: joined
            for number, page in self._pages.items()
            if number in other._pages and (joined := page & other._pages[number]).any()
        }
        return OffsetBits(pages)

    def joined(self, other: OffsetBits) -> OffsetBits:
        """Return what is in here or in `other`."""
        pages: dict[int, Any] = {number: page.copy() for number, page in self._pages.items()}
        for number, page in other._pages.items():
            pages[number] = pages[number] | page if number in pages else page.copy()
        return OffsetBits(pages)

    def between(self, low: int, high: int) -> OffsetBits:
        """Return what is in here from `low` up to, not including, `high`."""
        pages = {}
        for number, page in self._pages.items():
            start = number * PAGE_OFFSETS
            if low <= start and start + PAGE_OFFSETS <= high:
                pages[number] = page.copy()
            elif start < high and low < start + PAGE_OFFSETS:
                bits = np.unpackbits(page, bitorder="little")
                bits[: max(0, low - start)] = 0
                bits[max(0, high - start) :] = 0
                if bits.any():
                    pages[number] = np.packbits(bits, bitorder="little")
        return OffsetBits(pages)

    def chunks(self) -> Iterator[Offsets]:
        """Yield the offsets in order, some at a time."""
        for number in sorted(self._pages):
            bits = np.flatnonzero(np.unpackbits(self._pages[number], bitorder="little"))
            if len(bits):
                yield bits.astype(np.int64) + number * PAGE_OFFSETS

    def first(self, count: int) -> list[int]:
        """Return the lowest offsets, `count` of them at most."""
        found: list[int] = []
        for chunk in self.chunks():
            found += chunk[: count - len(found)].tolist()
            if len(found) >= count:
                break
        return found

    def last(self) -> int:
        """Return the highest offset; -1 of none."""
        for number in sorted(self._pages, reverse=True):
            bits = np.flatnonzero(np.unpackbits(self._pages[number], bitorder="little"))
            if len(bits):
                return int(bits[-1]) + number * PAGE_OFFSETS
        return -1
