"""Stand-in for CLIP: imports what the real one does, and finds its vocabulary as package data."""

from __future__ import annotations

import gzip
from pathlib import Path

import ftfy
import regex
from packaging import version

VOCABULARY = gzip.decompress(
    Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
).decode()
IMPORTED = (ftfy, regex, version)
