"""Fuzzing of all code that reads bytes from outside: `python -m tests.fuzz` (docs/fuzzing.md)."""
