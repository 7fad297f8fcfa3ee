"""Proof before shipping: talks to a worker, judges what it draws, and keeps the record."""
