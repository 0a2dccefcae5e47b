"""Lanes: credits, ordered release in transactions, watchdog. Framework-free."""
