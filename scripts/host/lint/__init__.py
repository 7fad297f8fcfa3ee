"""Linters of others and checks of this project's own, run together."""
