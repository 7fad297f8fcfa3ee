"""Build and smoke reports as files, pages and terminal output."""
