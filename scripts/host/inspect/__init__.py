"""Inspect an image: layers, packages and SBOM, and rules for them."""
