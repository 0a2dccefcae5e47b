"""Filter of uploads by bucket, prefix and suffix."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.places import parse_folder
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class UploadFilter:
    """Accepted buckets, prefixes and suffixes (empty: all), excluded prefixes, and places that the project writes to.

    `own_places` (bucket, prefix) are those of the lake. Its files must not count as uploads: each would make a record,
    and each record another file.
    """

    buckets: frozenset[str]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    excluded_prefixes: tuple[str, ...]
    own_places: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> UploadFilter:
        """Return the filter of the settings."""
        s3 = settings.s3
        return cls(
            frozenset(s3.buckets),
            s3.prefixes,
            tuple(suffix.lower() for suffix in s3.suffixes),
            s3.excluded_prefixes,
            tuple(parse_folder(address) for address in (settings.lake.warehouse, settings.lake.archive)),
        )

    def admits(self, bucket: str, key: str) -> bool:
        """Return whether an object of this bucket and key is to be scored."""
        return (
            (not self.buckets or bucket in self.buckets)
            and (not self.prefixes or key.startswith(self.prefixes))
            and (not self.suffixes or key.lower().endswith(self.suffixes))
            and not (self.excluded_prefixes and key.startswith(self.excluded_prefixes))
            and not any(bucket == own and key.startswith(prefix) for own, prefix in self.own_places)
        )
