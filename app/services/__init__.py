"""What runs beside the stream: bridge, reconcile, audit, rescore, dead letters, explain."""
