"""Choices and pins: what `config.yaml` and its layers say, and what `config.lock.yaml` adds."""
