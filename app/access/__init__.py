"""Access: API keys and console sessions.

Contains the registry of API keys (a control topic), the sessions of the console (Redis), and the verb `api keys`.
May import the core, `app.systems` and `app.verbs`; no other feature. Start reading in `keys.py`.
"""
