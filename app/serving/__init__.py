"""Serving: use cases that only the query service has.

Contains scoring on request, previews, the stream of flagged images and the operators' overview. May import the core,
`app.systems`, `app.verbs`, and `app.dead_letters` for its counts. Start reading in `scoring.py`.
"""
