"""The routes of the query service, one file for each group of paths."""
