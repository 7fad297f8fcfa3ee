"""Kinds of models: where the WebUI, an image and a volume keep the files of each."""
