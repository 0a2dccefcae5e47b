"""Bridge: upload events from an SQS queue to the topic of events.

May import the core, `app.systems` and `app.verbs`; no other feature. Start reading in `bridge.py`.
"""
