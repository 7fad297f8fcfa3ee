"""A script whose controls cannot be made."""

from modules import scripts


class RaisesInUi(scripts.Script):
    def title(self):
        return "Raises in ui"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        raise TypeError("the presets of raises-in-ui cannot be read")
