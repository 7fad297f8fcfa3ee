"""A script that loads without its package."""
