"""Stand-in for the captioning model's package."""
