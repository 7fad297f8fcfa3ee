"""Run on the builder's machine: config, models, builds, registries and reports."""
