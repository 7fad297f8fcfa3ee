"""Pip's cache on the network volume: its entries, statistics, pruning, and the command."""
