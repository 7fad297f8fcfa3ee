"""Push images and read what a registry holds."""
