"""Bring the models that a job names by address."""
