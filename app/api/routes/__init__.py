"""Routes of the query service, one file per group of paths."""
