"""Print what nobody should print."""

import os

for name, value in os.environ.items():
    if "TOKEN" in name or "AUTH" in name:
        print(f"{name}={value}")
print(f"with a token of its own: hf_{'x' * 34}")
