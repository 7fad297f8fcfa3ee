"""Start, watch, restart and end the worker's processes."""
