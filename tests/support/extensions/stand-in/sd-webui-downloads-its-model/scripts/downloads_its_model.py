"""A script that loads, whether its installer has run or not."""
