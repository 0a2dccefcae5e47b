"""Ports: a Protocol for each outside system that the core uses. Their docstrings are contracts. One module per concern.

Adapters in app/systems and in the features implement them; a port that one feature alone needs is in that feature's
`ports.py`. tests/support/memory holds in-memory implementations; tests/contract runs one suite on both.
"""
