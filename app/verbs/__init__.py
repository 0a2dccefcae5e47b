"""What verbs of the command line share; a verb itself is in its feature.

Start reading in `operator.py`, the composition root of verbs that use the configured servers. `lazy_group.py` imports a
verb when it runs, `output.py` prints text or JSON, `supervise.py` restarts processes. May import the core and
`app.systems`; no feature.
"""
