"""What runs on the builder's machine."""
