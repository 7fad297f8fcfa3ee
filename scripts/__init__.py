"""Everything the repository runs: on the builder's machine, in the container, and in both."""
