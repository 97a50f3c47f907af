"""A hub on loopback with the protocol of huggingface_hub 2.4 to create, upload and download; large files by LFS or Xet.

Xet's store is a folder: hf_xet takes `local://DIR` as its address, which it does not document.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "loopback" * 4
LFS_BYTES = 10 * 1024
ROUTES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"/api/whoami-v2", "whoami"),
        (r"/api/validate-yaml", "validate"),
        (r"/api/repos/create", "create"),
        (r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main", "preupload"),
        (r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main", "commit"),
        (r"/api/models/(?P<repo>[^/]+/[^/]+)/xet-(?:write|read)-token/\w+", "xet"),
        (r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>\w+)(?:/.*)?", "tree"),
        (r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>\w+))?", "info"),
        (r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        (r"/_lfs/(?P<oid>[0-9a-f]{64})(?P<verify>/verify)?", "lfs_object"),
        (r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>\w+)/(?P<file>.+)", "resolve"),
    )
]


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LoopbackHub(ThreadingHTTPServer):
    """Repositories in memory; `log` holds every request as method, route and whether it was authorised.

    Args:
        store: folder for Xet; None refuses Xet.
    """

    daemon_threads = True

    def __init__(self, store: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.store = store
        self.repos: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.xet: dict[str, tuple[str, int]] = {}  # Xet's own hash, and the size, by SHA-256
        self.log: list[tuple[str, str, bool]] = []
        self.lock = threading.RLock()
        self.on_object: Callable[[str], bool] = lambda oid: True  # whether it arrives
        self.refuse: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def add(self, repo: str, files: dict[str, bytes], private: bool = False) -> None:
        """Add a repository."""
        commit = {"oid": hashlib.sha1(repo.encode()).hexdigest(), "title": "initial commit", "files": files}
        self.repos[repo] = {"private": private, "commits": [commit]}

    def files(self, repo: str) -> dict[str, bytes]:
        """The newest files of a repository."""
        found: dict[str, bytes] = self.repos[repo]["commits"][-1]["files"]
        return found

    def requests(self, route: str) -> int:
        """Count the requests for a route."""
        return sum(name == route for _, name, _ in self.log)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The variables with which a process uses this server as the hub."""
        return {
            "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1" if self.store is None else "0",
        } | more  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _go(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        route = next(((match, name) for pattern, name in ROUTES if (match := pattern.fullmatch(path))), None)
        if route is None:
            self._answer(404, {"error": f"no route {path}"})
            return
        match, name = route
        with self.server.lock:
            self.server.log.append((self.command, name, authorised))
        if name in self.server.refuse:
            code, why = self.server.refuse[name]
            self._answer(code, {"error": why}, {"X-Error-Message": why})
        elif not authorised and name not in ("validate", "lfs_object", "info", "resolve", "tree"):
            self._answer(401, {"error": "Invalid user token."}, {"X-Error-Message": "Invalid user token."})
        elif (repo := match.groupdict().get("repo")) is not None and self._hidden(repo, authorised):
            self._answer(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            getattr(self, f"_{name}")(body, **match.groupdict())

    do_GET = do_POST = do_PUT = do_HEAD = _go

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, code: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hidden(self, repo: str, authorised: bool) -> bool:
        found = self.server.repos.get(repo)
        return found is None or (found["private"] and not authorised)

    def _commit_at(self, repo: str, revision: str | None) -> dict[str, Any]:
        commits: list[dict[str, Any]] = self.server.repos[repo]["commits"]
        return next((commit for commit in commits if commit["oid"] == revision), commits[-1])

    def _whoami(self, body: bytes) -> None:
        self._answer(200, {"type": "user", "name": "tester", "fullname": "tester", "orgs": [],
                           "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": "write"}}})  # fmt: skip

    def _validate(self, body: bytes) -> None:
        self._answer(200, {"errors": [], "warnings": []})

    def _create(self, body: bytes) -> None:
        created = json.loads(body)
        repo = f"{created.get('organization') or 'tester'}/{created['name']}"
        if repo in self.server.repos:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{repo}"})
            return
        self.server.add(repo, {".gitattributes": b""}, created.get("visibility") == "private")
        self._answer(200, {"url": f"{self.server.url}/{repo}", "name": repo, "id": "0"})

    def _preupload(self, body: bytes, repo: str) -> None:
        present = self.server.files(repo)
        self._answer(200, {"files": [
            {
                "path": file["path"], "shouldIgnore": False,
                "uploadMode": "lfs" if file["size"] > LFS_BYTES or file["path"].endswith(".safetensors") else "regular",
                "oid": git_oid(present[file["path"]]) if file["path"] in present else None,
            }
            for file in json.loads(body)["files"]
        ]})  # fmt: skip

    def _commit(self, body: bytes, repo: str) -> None:
        files, title = dict(self.server.files(repo)), ""
        for line in body.splitlines():
            entry = json.loads(line)
            kind, value = entry["key"], entry["value"]
            if kind == "header":
                title = value["summary"]
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                # With Xet the content is in its store, under a hash of its own.
                files[value["path"]] = self.server.objects.get(value["oid"], b"xet " + value["oid"].encode())
        oid = hashlib.sha1(f"{title} {time.time_ns()}".encode()).hexdigest()
        self.server.repos[repo]["commits"].append({"oid": oid, "title": title, "files": files})
        url = f"{self.server.url}/{repo}/commit/{oid}"
        self._answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _xet(self, body: bytes, repo: str) -> None:
        if self.server.store is None:
            self._answer(404, {"error": "no Xet here"})
            return
        address, until = f"local://{self.server.store}", int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": "x", "X-Xet-Token-Expiration": str(until)}
        self._answer(200, {"casUrl": address, "exp": until, "accessToken": "x"}, headers)

    def _tree(self, body: bytes, repo: str, revision: str) -> None:
        files = self._commit_at(repo, revision)["files"]
        self._answer(200, [{"type": "file", "path": p, "size": len(c), "oid": git_oid(c)} for p, c in files.items()])

    def _info(self, body: bytes, repo: str, revision: str | None) -> None:
        commit = self._commit_at(repo, revision)
        self._answer(200, {
            "_id": "0", "id": repo, "modelId": repo, "sha": commit["oid"], "private": self.server.repos[repo]["private"],
            "tags": [], "siblings": [{"rfilename": path} for path in commit["files"]], "downloads": 0, "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z",
        })  # fmt: skip

    def _lfs_batch(self, body: bytes, repo: str) -> None:
        def actions(oid: str) -> dict[str, Any]:
            href = f"{self.server.url}/_lfs/{oid}"
            return {"actions": {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}}

        wanted = json.loads(body)["objects"]
        objects = [one | ({} if one["oid"] in self.server.objects else actions(one["oid"])) for one in wanted]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _lfs_object(self, body: bytes, oid: str, verify: str | None) -> None:
        if verify:
            self._answer(200 if len(self.server.objects.get(oid, b"")) == json.loads(body)["size"] else 404, {})
            return
        if not self.server.on_object(oid):
            self.close_connection = True
            return
        if hashlib.sha256(body).hexdigest() != oid:
            self._answer(400, {"error": "sha mismatch"})
            return
        self.server.objects[oid] = body
        self._answer(200)

    def _resolve(self, body: bytes, repo: str, revision: str, file: str) -> None:
        commit = self._commit_at(repo, revision)
        known = {"X-Repo-Commit": commit["oid"]}
        if file not in commit["files"]:
            self._answer(404, {"error": "Entry not found"}, known | {"X-Error-Code": "EntryNotFound"})
            return
        content = commit["files"][file]
        if content.startswith(b"xet "):
            oid = content.removeprefix(b"xet ").decode()
            found, size = self.server.xet[oid]
            refresh = f"{self.server.url}/api/models/{repo}/xet-read-token/{commit['oid']}"
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(size), "X-Xet-Refresh-Route": refresh}
            self._answer(200, b"", known | linked | {"ETag": f'"{oid}"', "X-Xet-Hash": found})
            return
        self._answer(
            200, content, known | {"ETag": f'"{git_oid(content)}"', "Content-Type": "application/octet-stream"}
        )
