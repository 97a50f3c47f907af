"""The HTTP server: reads requests, lets them wait for the model, and sends answers in the form of their protocol."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from blocklm.serving.bodies import event_bytes, json_answer, read_fields
from blocklm.serving.engines.growing import Cancelled, Listener
from blocklm.serving.protocols import infill, openai
from blocklm.serving.question import Answer, Question
from blocklm.serving.refused import Refused
from blocklm.serving.request_queue import Job, RequestQueue
from blocklm.serving.served import Served, ServedRun

Result = TypeVar("Result")
Events = Callable[[Answer | str], Iterator[Any]]


def make_app(served: Served, hosts: Sequence[str]) -> FastAPI:
    """Build the server.

    No other origin may read its answers: there is no CORS, and requests that name another host are refused, so that a
    web page cannot reach it under a name of its own.

    Args:
        served: the runs.
        hosts: names of this machine that requests may give as their `Host`.

    Returns:
        The server; `state.stop` ends the answers that are being written.
    """
    service = _Service(served)
    app = FastAPI(openapi_url=None, lifespan=service.lifespan)
    app.state.stop = service.stop
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_api_route("/health", service.health, methods=["GET"])
    app.add_api_route("/props", service.props, methods=["GET"])
    app.add_api_route("/v1/models", service.models, methods=["GET"])
    app.add_api_route("/infill", service.infill, methods=["POST"])
    app.add_api_route("/v1/completions", service.completions, methods=["POST"])
    app.add_api_route("/v1/chat/completions", service.chat, methods=["POST"])
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Cancelled, _gone)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_exception_handler(Exception, _failed)
    return app


class _Service:
    """Answers the requests to each path."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._started = int(time.time())
        self._queue: RequestQueue

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Answer requests while the server runs."""
        self._queue = RequestQueue()
        worker = asyncio.create_task(self._queue.run())
        try:
            yield
        finally:
            worker.cancel()

    def stop(self) -> None:
        """End the answers that are being written, so that the server can end."""
        self._queue.stop()

    async def health(self) -> Response:
        """Say that the server is ready; models are loaded before it listens."""
        return json_answer({"status": "ok"})

    async def props(self) -> Response:
        """Describe the first run to clients of llama.cpp."""
        run = self._served.runs[0]
        settings = {"n_ctx": run.prompts.positions}
        described = {"default_generation_settings": settings, "total_slots": 1, "model_path": run.name}
        return json_answer(described | {"model_alias": run.name, "chat_template": ""})

    async def models(self) -> Response:
        """List the runs."""
        return json_answer(openai.models_body([run.name for run in self._served.runs], self._started))

    async def infill(self, request: Request) -> Response:
        """Answer a request to `/infill`."""
        asked = infill.parse(await read_fields(request))
        run = self._served.find(asked.question.model)
        if not run.prompts.fills_gaps:
            raise Refused(501, "Infill is not supported by this model: it was not taught the view `completion`")
        if asked.only_warms:
            return json_answer(infill.answer_body(Answer(""), asked, run.name))

        def events(said: Answer | str) -> Iterator[Any]:
            yield infill.piece_body(said) if isinstance(said, str) else infill.answer_body(said, asked, run.name)

        if asked.stream:
            return await self._stream(request, run, asked.question, events)
        return json_answer(infill.answer_body(await self._whole(request, run, asked.question), asked, run.name))

    async def completions(self, request: Request) -> Response:
        """Answer a request to `/v1/completions`."""
        return await self._complete(request, openai.parse_completion(await read_fields(request)))

    async def chat(self, request: Request) -> Response:
        """Answer a request to `/v1/chat/completions`."""
        return await self._complete(request, openai.parse_chat(await read_fields(request)))

    async def _complete(self, request: Request, asked: openai.CompletionRequest) -> Response:
        run = self._served.find(asked.question.model)
        name = f"{'chatcmpl' if asked.chat else 'cmpl'}-{uuid4().hex}"
        shape = openai.Shape(name, int(time.time()), run.name, asked.chat)
        first = iter((True,))

        def events(said: Answer | str) -> Iterator[Any]:
            if isinstance(said, str):
                yield shape.piece(said, next(first, False))
                return
            yield shape.last(said)
            if asked.usage:
                yield shape.usage(said)
            yield None

        if asked.stream:
            return await self._stream(request, run, asked.question, events)
        return json_answer(shape.whole(await self._whole(request, run, asked.question)))

    async def _whole(self, request: Request, run: ServedRun, question: Question) -> Answer:
        job = self._queue.submit(_client(request), lambda job: run.answer(question, Listener(lambda: job.cancelled)))
        try:
            return await _while_connected(request, job.answer)
        finally:
            self._queue.cancel(job)

    async def _stream(self, request: Request, run: ServedRun, question: Question, events: Events) -> Response:
        """Send an answer as it grows; what is refused before its first part is refused with a status of its own."""

        def work(job: Job) -> Answer:
            return run.answer(question, Listener(lambda: job.cancelled, job.emit))

        job = self._queue.submit(_client(request), work)
        try:
            first = await _while_connected(request, job.pieces.get())
            if first is None:
                await job.answer
        except BaseException:
            self._queue.cancel(job)
            raise

        async def parts() -> AsyncIterator[bytes]:
            try:
                piece = first
                while piece is not None:
                    for event in events(piece):
                        yield event_bytes(event)
                    piece = await job.pieces.get()
                for event in events(await job.answer):
                    yield event_bytes(event)
            except Refused as refused:
                yield event_bytes(refused.body)
            except Cancelled:  # the server ends
                return
            finally:
                self._queue.cancel(job)

        return StreamingResponse(parts(), media_type="text/event-stream")


async def _while_connected(request: Request, awaited: Awaitable[Result]) -> Result:
    """Wait for something until the client goes away.

    Raises:
        Cancelled: it has gone away.
    """
    waiting = asyncio.ensure_future(awaited)
    gone = asyncio.ensure_future(request.receive())  # after the body, nothing comes but the end of the connection
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Cancelled
        return waiting.result()
    finally:
        gone.cancel()
        if not waiting.done():
            waiting.cancel()


def _client(request: Request) -> str:
    """Name a client, as well as requests tell it: editors open a connection for each request."""
    host = request.client.host if request.client else ""
    return "\n".join((host, request.headers.get("user-agent", ""), request.headers.get("authorization", "")))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused), "it is registered for these"
    return json_answer(error.body, error.status)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's number for a client that closed the connection


async def _no_such_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is registered for these"
    return json_answer(Refused(error.status_code, str(error.detail)).body, error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    return json_answer(Refused(500, f"the server failed: {type(error).__name__}").body, 500)
