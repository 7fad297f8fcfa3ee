"""Examine the builder's machine: facts are gathered, judged by a table of checks, then shown."""
