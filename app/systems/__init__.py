"""Adapters of outside systems that belong to no single feature.

One package for each system. May import `app.domain`, `app.ports`, `app.streaming.ports` and settings; no feature.
"""
