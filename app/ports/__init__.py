"""What the core needs from outside, as Protocols whose docstrings are contracts; one module for each concern.

Adapters in app/systems and in the features implement them; a port that one feature alone needs is in that feature's
`ports.py`. tests/support/memory holds in-memory implementations; tests/contract runs one suite on both.
"""
