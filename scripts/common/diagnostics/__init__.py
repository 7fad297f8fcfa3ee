"""Errors as users see them, and the table of known failures."""
