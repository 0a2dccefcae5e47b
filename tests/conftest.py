"""Fixtures that every layer may ask for; nothing starts until a test does."""

pytest_plugins = ("tests.support.devices", "tests.support.stack", "tests.support.connect")
