"""Kafka Connect: configuration of the sink, its REST client, its health."""
