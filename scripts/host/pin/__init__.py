"""`invoke pin`: asks the outside world once, so that every later build takes the same bytes."""
