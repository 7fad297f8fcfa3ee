"""Describe extensions of the WebUI: those baked into an image, and those on a volume."""
