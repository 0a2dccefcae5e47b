"""Redis: the client and the index of the newest outcomes."""
