"""The local stack of real servers."""
