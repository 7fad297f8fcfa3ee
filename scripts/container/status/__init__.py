"""The worker's state, health check and metrics."""
