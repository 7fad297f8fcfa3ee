"""What is baked into the image. Imports `scripts.common` and what the image itself carries."""
