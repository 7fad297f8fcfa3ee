"""A pip that records its calls; see `__main__`."""
