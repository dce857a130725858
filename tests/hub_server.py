"""A Hugging Face Hub of one process: what huggingface_hub asks to create, send and fetch small repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 40


class Hub:
    """The repositories: ``owner/name`` to file to content; and the requests that were made."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0].strip("/")
        if "/resolve/" in path:
            repository, _, rest = path.partition("/resolve/")
            content = self.hub.files.get(repository, {}).get(rest.partition("/")[2])
            if repository not in self.hub.files:
                self._send(404, b"", X_Error_Code="RepoNotFound")
            elif content is None:
                self._send(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            else:
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                self._send(200, content, ETag=etag, X_Repo_Commit=COMMIT)
            return
        if path.startswith("api/models/"):
            repository = "/".join(path.split("/")[2:4])
            names = self.hub.files.get(repository)
            if names is None:
                self._send(404, b"", X_Error_Code="RepoNotFound")
            else:
                self._json({"id": repository, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]})
            return
        self._send(404)

    def do_POST(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0].strip("/")
        if path == "api/repos/create":
            asked = json.loads(body)
            repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.files.setdefault(repository, {})
            self._json({"url": f"{self.hub.address}/{repository}", "name": repository, "id": repository})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self._json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in path:
            repository = "/".join(path.split("/")[2:4])
            for line in body.splitlines():
                part = json.loads(line)
                if part["key"] == "file":
                    value = part["value"]
                    self.hub.files[repository][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.hub.address}/{repository}/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        elif path == "api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        else:
            self._send(404)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a hub on a port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
