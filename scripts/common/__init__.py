"""Code that host and container share; it imports nothing that the worker's environment lacks."""
