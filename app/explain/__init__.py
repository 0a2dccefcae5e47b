"""Explain: the history of one upload, collected from all topics.

Contains the search, the story in plain sentences and the verb `explain`. May import the core, `app.systems` and
`app.verbs`; no other feature. Start reading in `explain.py`.
"""
