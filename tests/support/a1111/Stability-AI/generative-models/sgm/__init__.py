"""Stand-in for Stable Diffusion XL's package."""
