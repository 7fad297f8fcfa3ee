"""What host and container share. Standard library only: the image has nothing else to offer."""
