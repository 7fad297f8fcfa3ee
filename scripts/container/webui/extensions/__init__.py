"""Bring the WebUI's extensions into its data folder, with the packages that they need."""
