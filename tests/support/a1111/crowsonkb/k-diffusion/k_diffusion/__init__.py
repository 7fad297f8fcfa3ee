"""Stand-in for the samplers' package."""
