"""Build the image: inputs, buildx and its progress."""
