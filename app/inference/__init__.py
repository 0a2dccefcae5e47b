"""Manifest, registry, engine; one file per runtime."""
