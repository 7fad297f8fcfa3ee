"""Make small model files of every kind, and the folder of a WebUI that has them."""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.pickles import tensor, torch_zip

Shapes = Mapping[str, tuple[int, ...]]

_CROSS = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
CHECKPOINT: Shapes = {
    f"model.diffusion_model.{_CROSS}": (4, 768),
    "first_stage_model.decoder.conv_in.weight": (1,),
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": (1,),
}
LORA: Shapes = {
    f"lora_unet_{part}.lora_{end}.weight": shape
    for part in ("down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",)
    for end, shape in (("down", (2, 768)), ("up", (320, 2)))
}
VAE: Shapes = {"encoder.conv_in.weight": (1,), "decoder.mid.block_1.conv1.weight": (1,)}
EMBEDDING: Shapes = {"emb_params": (2, 768)}


def safetensors(shapes: Shapes, seed: int = 0) -> bytes:
    """Return a safetensors file of random numbers."""
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    numbers = random.Random(seed)  # noqa: S311 - weights, not secrets
    values = (numbers.gauss(0, 0.02) for _ in range(at // 4))
    return struct.pack("<Q", len(text)) + text + struct.pack(f"<{at // 4}f", *values)


def upscaler(seed: int = 0) -> bytes:
    """Return a pickle of one tensor; the name of its key makes it another for each seed."""
    return torch_zip({f"model.{seed}.weight": tensor(3, 64)})


def write(path: Path, content: bytes | str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_extension(folder: Path, remote: str) -> str:
    """Make a git repository with a commit; return the commit."""
    write(folder / "scripts" / "main.py", "print('extension')\n")

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@invalid", "-c", "commit.gpgsign=false")
        command = ["git", *identity, "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", remote)
    git("add", "--all")
    git("commit", "--quiet", "--message=first")
    return git("rev-parse", "HEAD")


def tree_state(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Return mode, size, modification time and content of everything below a folder."""
    state = {}
    for path in (root, *sorted(root.rglob("*"))):
        stat = path.lstat()
        is_readable = path.is_file() and not path.is_symlink() and stat.st_mode & 0o400
        content = hashlib.sha256(path.read_bytes()).hexdigest() if is_readable else ""
        state[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, content)
    return state
