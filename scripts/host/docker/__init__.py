"""Building, inspecting and pushing the image with a Docker engine."""
