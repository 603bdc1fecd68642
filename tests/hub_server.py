"""A small model hub on this machine: repositories of files, with the HTTP interface that huggingface_hub uses."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "t" * 34


class Hub(ThreadingHTTPServer):
    """Repositories by name: their visibility, and the files of each commit."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.large: dict[str, bytes] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def revision(self, repository: str, name: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits[repository]
        if name == "main":
            return commits[-1]
        return next((commit for commit in commits if commit[0] == name), None)


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        repository, _, rest = unquote(urlsplit(self.path).path).strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if repository not in self.server.private or (self.server.private[repository] and not self.allowed()):
            return self.reply(401, X_Error_Code="RepoNotFound")
        commit = self.server.revision(repository, revision)
        if commit is None:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        if file not in commit[1]:
            return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit[0])
        content = commit[1][file]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.reply(200, content, ETag=etag, X_Repo_Commit=commit[0], Accept_Ranges="bytes")

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self.body()
        if not self.allowed():
            return self.reply(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        repository = path.removeprefix("/api/models/").removeprefix("/").partition("/preupload/")[0]
        repository = repository.partition("/commit/")[0].partition(".git/info/lfs/")[0]
        if "/preupload/" in path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.reply(200, {"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            return self.reply(
                200, {"transfer": "basic", "objects": [self.upload_of(item) for item in json.loads(body)["objects"]]}
            )
        if "/commit/" in path:
            return self.commit(repository, body)
        return self.reply(200, {})

    def do_PUT(self) -> None:
        self.server.large[self.path.removeprefix("/lfs/")] = self.body()
        self.reply(200)

    def create(self, wanted: dict[str, Any]) -> None:
        repository = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        if repository in self.server.private:
            return self.reply(409, {"error": "exists"})
        self.server.private[repository] = wanted.get("private", False) or wanted.get("visibility") == "private"
        self.server.commits[repository] = [("0" * 40, {})]
        return self.reply(200, {"url": f"{self.server.endpoint}/{repository}", "name": repository})

    def upload_of(self, item: dict[str, Any]) -> dict[str, Any]:
        address = {"href": f"{self.server.endpoint}/lfs/{item['oid']}"}
        return {"oid": item["oid"], "size": item["size"], "actions": {"upload": address}}

    def commit(self, repository: str, body: bytes) -> None:
        files = dict(self.server.commits[repository][-1][1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        identity = hashlib.sha1(body).hexdigest()
        self.server.commits[repository].append((identity, files))
        self.reply(
            200,
            {
                "commitUrl": f"{self.server.endpoint}/{repository}/commit/{identity}",
                "commitOid": identity,
                "pullRequestUrl": None,
            },
        )


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that runs in a thread of this process."""
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
