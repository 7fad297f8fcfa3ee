"""Write the generated tables: `python -m scripts.reference`."""

from scripts.reference.tables import rewrite

if __name__ == "__main__":
    print(f"wrote {rewrite().name}")
