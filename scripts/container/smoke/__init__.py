"""The smoke test from inside the container, for machines that no engine of ours reaches."""
