"""The query service: HTTP in, what is known of images out. FastAPI is named in this package alone."""
