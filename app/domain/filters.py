"""Which uploads are ours."""

from __future__ import annotations

from dataclasses import dataclass

from app.settings import S3Settings


@dataclass(frozen=True, slots=True)
class UploadFilter:
    """Buckets, prefixes and suffixes that are wanted (empty: all) and prefixes that never are.

    The excluded prefixes keep what the project itself writes from coming back as uploads.
    """

    buckets: frozenset[str]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    excluded_prefixes: tuple[str, ...]

    @classmethod
    def of(cls, settings: S3Settings) -> UploadFilter:
        """Return the filter that the settings describe."""
        return cls(
            frozenset(settings.buckets),
            settings.prefixes,
            tuple(suffix.lower() for suffix in settings.suffixes),
            settings.excluded_prefixes,
        )

    def admits(self, bucket: str, key: str) -> bool:
        """Whether an object of this bucket and key is to be scored."""
        return (
            (not self.buckets or bucket in self.buckets)
            and (not self.prefixes or key.startswith(self.prefixes))
            and (not self.suffixes or key.lower().endswith(self.suffixes))
            and not (self.excluded_prefixes and key.startswith(self.excluded_prefixes))
        )
