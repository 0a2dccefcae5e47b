"""Composition root: builds the worker out of settings, adapters and processors.

May import everything except `app.bench` and `app.demo`. Nothing imports it except the command line, the demo and the
benchmarks. Start reading in `bootstrap.py`.
"""
