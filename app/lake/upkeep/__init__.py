"""Upkeep of the lake: verify against the topics, repair, compact, erase, remove orphaned files."""
