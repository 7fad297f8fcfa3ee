"""Smoke checks that need only the API or the GPU, and their report data."""
