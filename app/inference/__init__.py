"""Inference: manifest, registry and engine; one file for each runtime."""
