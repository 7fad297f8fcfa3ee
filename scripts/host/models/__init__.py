"""Model files: where they come from, the store that keeps them verified, and the build context."""
