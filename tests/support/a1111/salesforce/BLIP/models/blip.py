"""Imports what the real captioning model imports from the image's packages."""

from __future__ import annotations

from timm.models import vision_transformer

ENCODER = vision_transformer.VisionTransformer
