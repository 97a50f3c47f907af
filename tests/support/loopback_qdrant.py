"""A Qdrant server on loopback: the REST protocol of the real client, with Qdrant's own in-memory collections."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

KEY = "a key for tests"
PATH = re.compile(r"/collections/([^/?]+)(/[^?]*)?")


class _Handler(BaseHTTPRequestHandler):
    collections: QdrantClient
    requests: list[str]

    def _answer(self) -> None:
        found = PATH.match(self.path)
        assert found is not None, self.path
        name, rest = found[1], found[2] or ""
        self.requests.append(f"{self.command} {rest or '/'}")
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if self.headers.get("api-key") != KEY:
            self._send(401, {"status": {"error": "Must provide an API key"}})
            return
        self._send(200, {"result": self._results()[self.command, rest](name, body), "status": "ok", "time": 0.0})

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer

    def _results(self) -> dict[tuple[str, str], Callable[[str, Any], Any]]:
        here = self.collections
        done = {"operation_id": 1, "status": "completed"}

        def scroll(name: str, body: Any) -> Any:
            points, offset = here.scroll(name, limit=body["limit"], offset=body.get("offset"), with_payload=False)
            return {"points": [{"id": point.id} for point in points], "next_page_offset": offset}

        def upsert(name: str, body: Any) -> Any:
            here.upsert(name, [models.PointStruct(**point) for point in body["points"]])
            return done

        def query(name: str, body: Any) -> Any:
            assert body["params"]["exact"] is True, "else answers would be those of an approximate index"
            found = here.query_points(name, query=body["query"]["nearest"], limit=body["limit"], with_payload=False)
            return {"points": [{"id": p.id, "version": 0, "score": p.score} for p in found.points]}

        return {
            ("GET", "/exists"): lambda name, _: {"exists": here.collection_exists(name)},
            ("GET", ""): lambda name, _: here.get_collection(name).model_dump(mode="json"),
            ("PUT", ""): lambda name, body: here.create_collection(
                name, models.VectorParams(**body["vectors"]), metadata=body["metadata"]
            ),
            ("PATCH", ""): lambda name, body: here.update_collection(name, metadata=body["metadata"]),
            ("DELETE", ""): lambda name, _: here.delete_collection(name),
            ("POST", "/points/scroll"): scroll,
            ("PUT", "/points"): upsert,
            ("POST", "/points/query"): query,
        }

    def _send(self, code: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def qdrant_server() -> Iterator[tuple[str, list[str]]]:
    """Start a server; yield its address and the list of requests."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"collections": QdrantClient(":memory:"), "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
