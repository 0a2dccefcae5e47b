"""Dead letters: list them, show one, publish its original bytes again, discard it.

May import the core, `app.systems` and `app.verbs`; no other feature. Start reading in `dead_letters.py`.
"""
