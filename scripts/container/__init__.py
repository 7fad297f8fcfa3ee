"""Code that is part of the image. Imports `scripts.common` and what the image itself carries."""
