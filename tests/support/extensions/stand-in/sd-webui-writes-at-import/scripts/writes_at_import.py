"""A script that writes into its own folder when it is loaded."""

from pathlib import Path

from modules import scripts

Path(scripts.basedir(), "state.json").write_text("{}\n")


class WritesAtImport(scripts.Script):
    def title(self):
        return "Writes at import"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []
