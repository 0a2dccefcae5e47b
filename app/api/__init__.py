"""The query service: HTTP requests about images, and the pages of the console. Only this package imports FastAPI."""
