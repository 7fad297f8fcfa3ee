"""Serve a small Hugging Face Hub: folders `owner/repo/files` at the addresses that clients call.

It answers `huggingface_hub`, plain `curl`/`wget`, and this project's own downloads:

- `/owner/repo/resolve/REVISION/FILE`: large files as a redirect with the LFS headers, small ones
  as they are, with their git blob id as ETag
  (https://huggingface.co/docs/huggingface_hub/package_reference/file_download);
- `/owner/repo/raw/REVISION/FILE`: the LFS pointer of a large file;
- `/api/models/owner/repo[/revision/REVISION]`, `.../tree/REVISION`, `.../paths-info/REVISION`.

It holds one state: `main` is a commit made from the files, any 40 hex digits name that same state.
A file `.gated` in a repository holds the token that it asks for. As a program:

    python -m tests.support.hub --root DIR --port 8080
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.support.serving import Quiet, Server, running
from tests.support.xet import reconstruction, token_headers, xorb

LFS_FROM = 1_000_000
LFS_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin", ".onnx")


@dataclass(frozen=True)
class Held:
    """A file of a repository."""

    name: str
    path: Path
    size: int
    sha256: str
    blob: str

    @property
    def is_lfs(self) -> bool:
        """True if git holds only a pointer."""
        return self.size >= LFS_FROM or self.name.endswith(LFS_SUFFIXES)

    @property
    def pointer(self) -> bytes:
        """The LFS pointer (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
        return f"{text}size {self.size}\n".encode()

    @property
    def entry(self) -> dict[str, Any]:
        """Its description by the endpoints tree and paths-info."""
        base = {"type": "file", "path": self.name, "size": self.size}
        if not self.is_lfs:
            return {**base, "oid": self.blob}
        oid = blob_id(self.pointer)
        lfs = {"oid": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return {**base, "oid": oid, "lfs": lfs}

    @property
    def sibling(self) -> dict[str, Any]:
        """Its description by the model endpoint with `blobs=true`."""
        described: dict[str, Any] = {"rfilename": self.name, "size": self.size}
        lfs = {"sha256": self.sha256, "size": self.size, "pointerSize": len(self.pointer)}
        return {**described, "blobId": self.entry["oid"], **({"lfs": lfs} if self.is_lfs else {})}


def blob_id(content: bytes) -> str:
    """Return the ID that git gives to a file of that content."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content).hexdigest()  # noqa: S324 - git's own hash


@cache
def _hashes(path: Path, size: int, _mtime_ns: int) -> tuple[str, str]:
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)  # noqa: S324 - git's own
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            blob.update(chunk)
    return sha256.hexdigest(), blob.hexdigest()


def held(root: Path, name: str) -> Held:
    """Describe one file below a repository's folder."""
    path = root / name
    stat = path.stat()
    return Held(name, path, stat.st_size, *_hashes(path, stat.st_size, stat.st_mtime_ns))


def files_of(repo: Path) -> list[Held]:
    """List every file of a repository."""
    names = sorted(str(p.relative_to(repo)) for p in repo.rglob("*") if p.is_file())
    return [held(repo, name) for name in names if name != ".gated"]


def commit_of(repo: Path) -> str:
    """Return the commit of `main`; the same files have the same commit."""
    listing = "".join(f"{each.name} {each.sha256}\n" for each in files_of(repo))
    return hashlib.sha1(listing.encode()).hexdigest()  # noqa: S324 - looks like git's


class _Handler(Quiet):
    server: HubServer

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        self.server.requests.append((self.command, self.path, dict(self.headers.items())))
        path = unquote(urlsplit(self.path).path)
        refused = self.server.refused_token
        if refused and self.headers.get("Authorization") == f"Bearer {refused}":
            said = "Invalid credentials in Authorization header"  # also for public repositories
            return self.answer(401, json.dumps({"error": said}).encode(), {"X-Error-Message": said})
        if match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            return self._cdn(match[1], match[2])
        if match := re.fullmatch(r"/cas/v1/reconstructions/([0-9a-f]{64})", path):
            return self._reconstruction(match[1])
        if match := re.fullmatch(r"/xorb/([0-9a-f]{64})", path):
            return self._xorb(match[1])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/xet-read-token/.+", path):
            if self.server.refuses_xet_tokens:
                return self._missing("Unauthorized", 403)
            return self.answer(200, b"{}", token_headers(f"http://{self.headers['Host']}/cas"))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w[\w-]*)/([^/]+)(/.*)?)?", path):
            return self._api(match[1], match[2] or "revision", match[3] or "main", match[4] or "")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/(resolve|raw)/([^/]+)/(.+)", path):
            return self._file(match[1], match[2], match[3], match[4])
        return self._missing("EntryNotFound")

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's own names

    def _missing(self, code: str, status: int = 404) -> None:
        body = json.dumps({"error": code}).encode()
        self.answer(status, body, {"X-Error-Code": code, "X-Error-Message": code})

    def _commit(self, name: str, revision: str) -> str | None:
        """Return the commit of a revision; send an error and return None if it may not be read."""
        repo = self.server.root / name
        if not repo.is_dir():
            self._missing("RepoNotFound", 401)
            return None
        gate = repo / ".gated"
        if gate.exists():
            expected = f"Bearer {gate.read_text().strip()}"
            given = self.headers.get("Authorization")
            if given != expected:
                self._missing("GatedRepo", 403 if given else 401)
                return None
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        if revision == "main":
            return commit_of(repo)
        self._missing("RevisionNotFound")
        return None

    def _file(self, name: str, kind: str, revision: str, file: str) -> None:
        commit = self._commit(name, revision)
        if commit is None:
            return None
        repo = self.server.root / name
        if not (repo / file).is_file() or file == ".gated":
            return self._missing("EntryNotFound")
        found = held(repo, file)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{found.blob}"'}
        if not found.is_lfs:
            return self.answer_file(found.path, headers)
        if kind == "raw":
            return self.answer(200, found.pointer, headers)
        linked = self._linked(found, name, commit)
        here = f"http://{self.headers['Host']}"
        cdn = self.server.cdn or here
        there = f"{cdn}/cdn/{name}/{quote(file)}?commit={commit}"
        return self.answer(302, headers={**headers, **linked, "Location": there})

    def _linked(self, found: Held, name: str, commit: str) -> dict[str, str]:
        """Return the headers that describe a large file."""
        linked = {"X-Linked-Etag": f'"{found.sha256}"', "X-Linked-Size": str(found.size)}
        if self.server.is_xet:
            route = f"http://{self.headers['Host']}/api/models/{name}/xet-read-token/{commit}"
            linked |= {"X-Xet-Hash": found.sha256, "X-Xet-Refresh-Route": route}
        return linked

    def _cdn(self, name: str, file: str) -> None:
        if not (self.server.root / name / file).is_file():
            return self._missing("EntryNotFound")
        found = held(self.server.root / name, file)
        # huggingface_hub follows redirects on one host, and reads these off the last answer.
        commit = parse_qs(urlsplit(self.path).query).get("commit", [""])[0]
        linked = self._linked(found, name, commit)
        headers = {**linked, "X-Repo-Commit": commit, "ETag": f'"{found.sha256[:32]}"'}
        return self.answer_file(found.path, headers)

    def _by_sha256(self, sha256: str) -> Held:
        repos = [path for path in self.server.root.glob("*/*") if path.is_dir()]
        return next(file for repo in repos for file in files_of(repo) if file.sha256 == sha256)

    def _reconstruction(self, sha256: str) -> None:
        url = f"http://{self.headers['Host']}/xorb/{sha256}"
        size = self._by_sha256(sha256).size
        body = reconstruction(url, sha256, size, self.headers.get("Range", ""))
        self.answer(416 if body is None else 200, body or b"")

    def _xorb(self, sha256: str) -> None:
        content = xorb(self._by_sha256(sha256).path.read_bytes())
        start, stop = self.wanted_range(len(content), "") or (0, len(content))
        if self.server.damages_xorbs:
            content = content.replace(content[8:16], bytes(8))
        where = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        self.answer(206, content[start:stop], where)

    def _api(self, name: str, kind: str, revision: str, below: str) -> None:
        form = parse_qs(self.drain().decode()) if self.command == "POST" else {}
        commit = self._commit(name, revision)
        if commit is None:
            return None
        files = files_of(self.server.root / name)
        answer: Any
        if kind == "revision":
            siblings = [each.sibling for each in files]
            answer = {"_id": commit, "id": name, "sha": commit, "siblings": siblings}
            answer |= {"private": False, "tags": [], "downloads": 0, "likes": 0}
        elif kind == "tree":
            answer = [each.entry for each in files if each.name.startswith(below.lstrip("/"))]
        elif kind == "paths-info":
            answer = [each.entry for each in files if each.name in form.get("paths", [])]
        else:
            return self._missing("EntryNotFound")
        body = json.dumps(answer).encode()
        return self.answer(200, body, {"Content-Type": "application/json", "X-Repo-Commit": commit})


class HubServer(Server):
    """The stand-in's server; `requests` holds method, path and headers of every request."""

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 0, cdn: str = "") -> None:
        self.root = root
        self.is_xet = False  # offer `hf_xet` its own transfer
        self.refuses_xet_tokens = False
        self.refused_token = ""  # one that is not valid
        self.damages_xorbs = False  # ... of other bytes than the file's
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cdn = cdn
        super().__init__((host, port), _Handler)


@contextmanager
def hub(root: Path, *, host: str = "127.0.0.1", cdn: str = "") -> Iterator[HubServer]:
    """Serve the repositories below `root` until the block ends.

    Args:
        root: folder of owner/repo/files.
        host: address to listen on.
        cdn: address that large files are redirected to; the stand-in itself by default.
    """
    server = HubServer(root, host, cdn=cdn)
    with running(server):
        yield server


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second and connection")
    given = parser.parse_args()
    server = HubServer(given.root, given.host, given.port)
    server.rate = given.rate
    print(f"hub stand-in at {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
