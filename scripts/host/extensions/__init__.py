"""Fetch the extensions of a config, keep them in the store, and lay them out for a build."""
