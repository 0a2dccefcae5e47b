"""Scoring of files from the command line: the verb `score` and its HTML report.

May import the core, `app.systems` and `app.verbs`; no other feature. Start reading in `files.py`.
"""
