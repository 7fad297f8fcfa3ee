"""Inspect an image: layers, packages, SBOM and rules."""
