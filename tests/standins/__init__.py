"""Former home of the stand-ins, which are in `tests.support` now."""
