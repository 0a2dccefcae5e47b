"""Index: rebuild the newest outcome of each image in Redis from its topic.

Contains the rebuild and the verb `index`; the index itself is `app/systems/redis/index.py`, because the worker, the
API and operators use it. May import the core, `app.systems`, `app.verbs`, and `app.moderation` for its queue. Start
in `rebuild.py`.
"""
