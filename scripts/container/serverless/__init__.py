"""Serve RunPod jobs: handler, job input, jobs and job output."""
