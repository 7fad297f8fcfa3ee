"""Not wanted in an image."""
