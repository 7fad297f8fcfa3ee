"""Small replacements for outside sources, for tests and for machines that cannot reach them."""
