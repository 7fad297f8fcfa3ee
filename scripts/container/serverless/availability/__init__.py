"""Check what a request names against what the running WebUI has."""
