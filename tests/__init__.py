"""Tests, by what they need: nothing, an engine, an image."""
