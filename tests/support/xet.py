"""Answer the Hub's chunked transfer, as far as `hf_xet` needs it to fetch a file.

A file is one "xorb" of uncompressed chunks, and its reconstruction one term that covers it. By
https://huggingface.co/docs/xet: reconstructions at `/v1/reconstructions/HASH`, a chunk is an 8 byte
header (version, 24 bit length as stored, compression, 24 bit length) and its bytes.
"""

from __future__ import annotations

import json
import re
import time

CHUNK = 1 << 16
_HEADER = 8


def token_headers(cas: str) -> dict[str, str]:
    """Return the headers of the token endpoint."""
    expires = str(int(time.time()) + 3600)
    return {
        "X-Xet-Cas-Url": cas,
        "X-Xet-Access-Token": "stand-in",
        "X-Xet-Token-Expiration": expires,
    }


def xorb(content: bytes) -> bytes:
    """Return the content as uncompressed chunks."""
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    lengths = (len(piece).to_bytes(3, "little") for piece in pieces)
    framed = (b"\0%b\0%b%b" % (n, n, piece) for n, piece in zip(lengths, pieces, strict=True))
    return b"".join(framed)


def reconstruction(url: str, name: str, size: int, requested: str) -> bytes | None:
    """Return how to put a part of a file together.

    Args:
        url: where the xorb is.
        name: the xorb's hash.
        size: bytes of the file.
        requested: the request's Range header; empty for all.

    Returns:
        JSON, or None where the part begins after the end.
    """
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", requested)
    start = int(match[1]) if match else 0
    stop = min(size, int(match[2]) + 1) if match and match[2] else size
    if start >= size:
        return None
    first, last = start // CHUNK, -(-stop // CHUNK)
    chunks = {"start": first, "end": last}
    unpacked = min(size, last * CHUNK) - first * CHUNK
    packed = {
        "start": first * (CHUNK + _HEADER),
        "end": min(last * (CHUNK + _HEADER), size + _HEADER * last) - 1,
    }
    answer = {
        "offset_into_first_range": start % CHUNK,
        "terms": [{"hash": name, "unpacked_length": unpacked, "range": chunks}],
        "fetch_info": {name: [{"range": chunks, "url": url, "url_range": packed}]},
    }
    return json.dumps(answer).encode()
