"""Moderation: claims and decisions of moderators about flagged images.

Contains the decision log, the queue (Redis) and the verb `policy`. May import the core, `app.systems` and
`app.verbs`; no other feature. Start reading in `decisions.py`.
"""
