"""The pip cache on the network volume: entries, statistics and pruning."""
