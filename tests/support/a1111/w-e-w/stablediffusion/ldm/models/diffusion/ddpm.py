"""The file by which the WebUI recognises the repository.

The real one imports pytorch_lightning, which needs setuptools' pkg_resources: so does this.
"""

from __future__ import annotations

import pytorch_lightning


class LatentDiffusion(pytorch_lightning.LightningModule):
    """The model class that the WebUI's configuration names."""
