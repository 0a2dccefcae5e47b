"""Ledger: count uploads and outcomes, and find what is missing or doubled.

Contains `audit` (topics against topics), `reconcile` (bucket against topics) and their verbs. May import the core,
`app.systems`, `app.verbs`, and `app.dead_letters` for its reader. Start reading in `ledger.py`.
"""
