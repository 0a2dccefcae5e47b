"""Rescoring: jobs that score stored images again with new models.

Contains jobs, their plan, listing, progress and signals, and the verb `rescore`. May import the core, `app.systems`
and `app.verbs`; no other feature. Start reading in `rescore.py`.
"""
