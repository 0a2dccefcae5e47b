"""Exactly-once release in source order, independent of any framework.

    pump ── credit ──► lane (one per input partition): slots in source order
                          │  processor handles records concurrently
                          ▼
                       release: claims ► one transaction (outputs + offset) ► table writes

`lanes` opens and closes all lanes of a generation. `watchdog` ends a process that makes no progress.
"""
