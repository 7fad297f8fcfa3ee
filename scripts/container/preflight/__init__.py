"""Checks that a container makes of itself: its facts, their judgement, and the command."""
