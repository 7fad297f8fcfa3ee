"""Facts about GPUs, their driver and torch, and one judge of all three."""
