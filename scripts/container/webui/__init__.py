"""Launch the WebUI: flags, environment and readiness."""
