"""Serve RunPod jobs: from the job's input to a request, its checks, and the answer."""
