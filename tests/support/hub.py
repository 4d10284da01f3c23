"""A hub of models and data sets on this machine: as much of its HTTP interface as clients need to list and to read."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of every repository, which ``main`` names too."""
REVISIONS = {"main", COMMIT}
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@contextmanager
def serve(home: Path) -> Iterator[str]:
    """Serve ``home/models/<id>`` and ``home/datasets/<id>``; yields the address for ``HF_ENDPOINT``."""
    handler = type("Handler", (Hub,), {"home": home})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as huggingface.co does; what it does not know is 404 with the hub's reason."""

    home: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Information, a list of files, or a file or a range of it."""
        path = urlsplit(self.path).path
        if found := FILE.fullmatch(path):
            datasets, repo, revision, name = map(unquote, found.groups(default=""))
            if root := self._root("datasets" if datasets else "models", repo, revision):
                self._file(root / name)
        elif found := API.fullmatch(path):
            kind, repo, what, revision, below = map(unquote, found.groups(default=""))
            if root := self._root(kind, repo, revision or "main"):
                self._json(self._list(root, below) if what == "tree" else self._about(root, repo))
        else:
            self._refuse("")

    def do_HEAD(self) -> None:
        """The same without content."""
        self.do_GET()

    def do_POST(self) -> None:
        """What is known of some paths of a repository."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        found = API.fullmatch(urlsplit(self.path).path)
        if not found or found[3] != "paths-info":
            self._refuse("")
            return
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
        if root := self._root(found[1], found[2], unquote(found[4])):
            self._json([_entry(root, root / name) for name in paths if (root / name).exists()])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        """Say nothing."""

    def _root(self, kind: str, repo: str, revision: str) -> Path | None:
        root = self.home / kind / repo
        if root.is_dir() and revision in REVISIONS:
            return root
        self._refuse("RevisionNotFound" if root.is_dir() else "RepoNotFound")
        return None

    def _about(self, root: Path, repo: str) -> dict[str, object]:
        names = [{"rfilename": str(path.relative_to(root))} for path in sorted(root.rglob("*")) if path.is_file()]
        return {"id": repo, "sha": COMMIT, "private": False, "gated": False, "tags": [], "siblings": names}

    def _list(self, root: Path, below: str) -> list[dict[str, object]]:
        deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        return [_entry(root, path) for path in sorted((root / below).glob("**/*" if deep else "*"))]

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._refuse("EntryNotFound")
            return
        content, status = path.read_bytes(), HTTPStatus.OK
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(path)}"', "Accept-Ranges": "bytes"}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], HTTPStatus.PARTIAL_CONTENT
        self._send(status, content, headers)

    def _json(self, value: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, reason: str) -> None:
        self._send(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": reason})

    def _send(self, status: HTTPStatus, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(root: Path, path: Path) -> dict[str, object]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "oid": COMMIT, "size": 0, "path": name}
    return {"type": "file", "oid": _oid(path), "size": path.stat().st_size, "path": name}


def _oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
