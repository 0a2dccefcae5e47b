"""Fixtures that every layer may ask for; nothing starts until a test does."""

from hypothesis import settings

# A busy machine makes any example slow; what must be quick is measured, not tested.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

pytest_plugins = ("tests.support.devices", "tests.support.stack", "tests.support.lake.connect")
