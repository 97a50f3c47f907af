"""A server that continues prompts as llama.cpp's `/completion` and OpenAI's `/v1/completions` do, without a model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECES = ["    return", " a", " + b", "\n", "rest"]


@contextmanager
def server(llama_cpp: bool, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that writes `PIECES`, llama.cpp's up to a stop; yields its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/props" and not llama_cpp:
                self.send_error(404)
                return
            body = (
                {"data": [{"id": "model"}], "default_generation_settings": {}}
                if llama_cpp
                else {"data": [{"id": "model"}]}
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request | {"path": self.path})
            self.send_response(status)
            self.end_headers()
            for number, piece in enumerate(PIECES):
                stopped = llama_cpp and piece in request["stop"]
                last = stopped or number == len(PIECES) - 1
                event: dict[str, Any] = {"choices": [{"text": piece, "finish_reason": "stop" if last else None}]}
                if llama_cpp:
                    event = {"content": "" if stopped else piece, "stop": last}
                    if last:
                        ended = {"stop_type": "word" if stopped else "eos", "tokens_predicted": number + 1}
                        event |= ended | {"timings": {"prompt_n": 2}}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                if last:
                    return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", asked
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
