"""Generate reference tables from the code."""
