"""Make the model files that tests build with: real formats, small sizes."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

CHECKPOINT_REPO = "XpucT/Deliberate"
CHECKPOINT_FILE = "Deliberate_v6.safetensors"
TOKENIZER_REPO = "openai/clip-vit-large-patch14"

_TENSORS = ("model.diffusion_model.input", "model.diffusion_model.output")
_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = ("a", "photo", "of", "the", "cat", "dog", "red", "house", "by", "sea")


def make_checkpoint(path: Path, *, seed: int = 0, edge: int = 512) -> Path:
    """Write a safetensors file of two square tensors of small numbers, drawn by the seed.

    By the format's description (https://huggingface.co/docs/safetensors): the header's length as
    eight bytes, the header as JSON, then the tensors' bytes.
    """
    numbers = random.Random(seed)  # noqa: S311 - weights, not secrets
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    length = edge * edge * 4
    for index, name in enumerate(_TENSORS):
        offsets = [index * length, (index + 1) * length]
        header[name] = {"dtype": "F32", "shape": [edge, edge], "data_offsets": offsets}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for _ in _TENSORS:
            values = (numbers.gauss(0, 0.02) for _ in range(edge * edge))
            stream.write(struct.pack(f"<{edge * edge}f", *values))
    return path


def make_tokenizer(folder: Path) -> Path:
    """Write the five files of a CLIP tokenizer with a vocabulary of a few words.

    The shape is that of byte-level BPE as CLIP uses it (https://github.com/openai/CLIP,
    `simple_tokenizer.py`): every byte, every byte that ends a word, then one symbol a merge.
    """
    letters = _byte_letters()
    merges = _merges(_WORDS)
    symbols = [*letters, *(letter + _WORD_END for letter in letters)]
    symbols += ["".join(pair) for pair in merges] + [_START, _END]
    files: dict[str, str] = {
        "vocab.json": json.dumps({symbol: number for number, symbol in enumerate(symbols)}),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "special_tokens_map.json": json.dumps(_special_tokens()),
        "tokenizer_config.json": json.dumps(
            {
                **_special_tokens(),
                "tokenizer_class": "CLIPTokenizer",
                "add_prefix_space": False,
                "do_lower_case": True,
                "errors": "replace",
                "model_max_length": 77,
            }
        ),
        "config.json": json.dumps(
            {"model_type": "clip", "text_config": {"vocab_size": len(symbols)}}
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _byte_letters() -> list[str]:
    """Return one printable character for each byte: itself where printable, else above U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the merges, from left to right, that make one symbol of each word."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        parts = [*word[:-1], word[-1] + _WORD_END]
        while len(parts) > 1:
            merges[parts[0], parts[1]] = None
            parts[:2] = [parts[0] + parts[1]]
    return list(merges)


def _special_tokens() -> dict[str, str]:
    return {
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
    }


def make_hub(root: Path) -> Path:
    """Write the two repositories that config.yaml names, as the Hub stand-in serves them."""
    make_checkpoint(root / CHECKPOINT_REPO / CHECKPOINT_FILE)
    make_tokenizer(root / TOKENIZER_REPO)
    return root
