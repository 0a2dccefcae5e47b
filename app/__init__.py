"""Sightline: scores every uploaded image as a Kafka stream application."""
