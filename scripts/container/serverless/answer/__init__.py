"""Check, measure and deliver what the WebUI answers."""
