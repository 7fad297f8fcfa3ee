"""Make a request to the WebUI from a job's input."""
