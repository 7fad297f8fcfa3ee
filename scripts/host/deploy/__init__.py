"""One serverless endpoint of RunPod for each variant, through RunPod's REST API v2."""
