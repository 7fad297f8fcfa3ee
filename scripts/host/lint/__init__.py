"""Lints everything: other people's linters and the project's own checks, one list of problems."""
