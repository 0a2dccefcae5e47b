"""Training and evaluation of heads."""
