"""A small hub on 127.0.0.1: enough of the real one's protocol for the real client."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pt")  # stored by their SHA-256, as the real one does
TOKEN = "hf_secret"


@dataclass
class Repo:
    """One model: its files, who may see it, and how its server misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    status: int = 0  # answer everything with this status
    cut: int = 0  # bytes after which the first answer to a GET breaks off
    always_cut: bool = False
    damaged: bool = False  # large files arrive with a wrong byte

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


def etag(name: str, content: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """What it was asked is in ``requests``; ``repos`` may be changed while it runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.tokens: set[str] = set()

    token = TOKEN  # the one that opens everything

    def add(self, name: str, files: dict[str, bytes]) -> None:
        """Publish a model, in place of the one of that name."""
        self.repos[name] = Repo(dict(files))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._give(body=False)

    def do_GET(self) -> None:
        self._give(body=True)

    def do_PUT(self) -> None:
        oid = urlsplit(self.path).path.rpartition("/")[2]
        self.server.uploads[oid] = self._read()
        self._json({})

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        content = self._read()
        self.server.requests[f"POST {path}"] += 1
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "", "Invalid credentials")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            wanted = json.loads(content)
            name = f"{wanted['organization']}/{wanted['name']}"
            known = name in self.server.repos
            private = wanted.get("visibility") == "private"
            self.server.repos.setdefault(name, Repo(private=private))
            return self._json({"url": f"{self.server.url}/{name}"}, 409 if known else 200)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/\w+", path):
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(content)["files"]
            ]
            return self._json({"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._json({"transfer": "basic", "objects": self._places(json.loads(content))})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/\w+", path):
            return self._commit(match[1], content)
        return self._refuse(404, "", "Not here")

    def _places(self, wanted: dict) -> list[dict]:
        def place(oid: str) -> dict:
            return {"upload": {"href": f"{self.server.url}/lfs/{oid}", "header": {}}}

        return [{**each, "actions": place(each["oid"])} for each in wanted["objects"]]

    def _commit(self, name: str, content: bytes) -> None:
        repo = self.server.repos[name]
        for line in content.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                repo.files[value["path"]] = self.server.uploads[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{repo.commit}"
        self._json({"commitUrl": url, "commitOid": repo.commit})

    def _give(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests[f"{self.command} {path}"] += 1
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.tokens |= {token} - {""}
        match = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)(/.*)?", path)
        repo = self.server.repos.get(match[1]) if match else None
        if repo is None or (repo.private and token != TOKEN):
            return self._refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
        if repo.gated and token != TOKEN:
            return self._refuse(403, "GatedRepo", "Access to this model is restricted")
        if repo.status:
            return self._refuse(repo.status, "", "out of order")
        rest = match[2] or ""
        if found := re.fullmatch(r"/resolve/([^/]+)/(.+)", rest):
            return self._file(repo, *found.groups(), body=body)
        if rest.startswith("/tree/"):
            return self._json([_entry(*item) for item in sorted(repo.files.items())])
        siblings = [{"rfilename": name} for name in sorted(repo.files)]
        return self._json({"id": match[1], "sha": repo.commit, "siblings": siblings})

    def _file(self, repo: Repo, revision: str, name: str, *, body: bool) -> None:
        if revision not in ("main", repo.commit):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if name not in repo.files:
            return self._refuse(404, "EntryNotFound", "Entry not found", repo.commit)
        content = repo.files[name]
        mark = etag(name, content)
        if repo.damaged and name.endswith(LARGE):
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = 0
        if wanted := self.headers.get("Range"):
            self.server.ranges.append(wanted)
            start = int(re.match(r"bytes=(\d+)-", wanted)[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{mark}"')
        self.send_header("X-Repo-Commit", repo.commit)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return None
        if repo.cut and start == 0 and len(content) > repo.cut:
            self.wfile.write(content[: repo.cut])
            self.wfile.flush()
            repo.cut = repo.cut if repo.always_cut else 0
            self.close_connection = True
            return None
        if repo.always_cut:
            self.close_connection = True
            return None
        self.wfile.write(content[start:])
        return None

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: object, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str, message: str, commit: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(name: str, content: bytes) -> dict:
    entry = {"type": "file", "path": name, "size": len(content), "oid": etag("x", content)}
    if name.endswith(LARGE):
        entry["lfs"] = {
            "oid": etag(name, content),
            "size": len(content),
            "pointerSize": 130,
        }
    return entry
