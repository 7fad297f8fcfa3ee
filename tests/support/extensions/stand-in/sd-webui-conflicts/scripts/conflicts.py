"""A script that refuses the WebUI's version of a package."""

import pydantic

if pydantic.VERSION.startswith("1."):
    raise ImportError(f"pydantic 2 is needed, found {pydantic.VERSION}")
