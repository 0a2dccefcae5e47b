"""Parking: records that a worker must not handle, by an operator's word or after three crashes.

Contains the parked offsets (a control topic), the marks of records in hand (a file) and the verb `records`. The rule
itself is `app/streaming/suspects.py`. May import the core, `app.systems` and `app.verbs`; no other feature. Start in
`parked.py`.
"""
