"""Settings and pins: `config.yaml` with its overrides, and `config.lock.yaml`."""
