"""Checks of API, GPU and images, their results, and the data of the smoke report."""
