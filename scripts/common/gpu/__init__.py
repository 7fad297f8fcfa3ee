"""Devices, driver and torch: how each is asked, and one judge of the answers."""
