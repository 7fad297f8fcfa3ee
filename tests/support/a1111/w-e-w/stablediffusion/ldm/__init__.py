"""Stand-in for Stable Diffusion's own package."""
