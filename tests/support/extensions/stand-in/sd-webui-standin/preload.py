"""Add a flag to the WebUI's command line."""


def preload(parser):
    parser.add_argument("--standin-models-path", type=str, default=None)
