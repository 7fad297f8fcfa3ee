"""Import of an existing WebUI folder: its models, flags, settings and extensions become config."""
