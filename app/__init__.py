"""Sightline: scores every uploaded image as a Kafka stream application."""

# The same as in pyproject.toml; predictions carry it.
__version__ = "0.1.0"
