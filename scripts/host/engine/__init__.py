"""The Docker engine: client, contexts and the containers of this checkout."""
