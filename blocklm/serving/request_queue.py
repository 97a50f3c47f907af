"""Lets requests wait for the one model: clients take turns, and of one client only the newest requests wait."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

from blocklm.serving.refused import Refused

MAX_WAITING = 64  # requests of all clients
MAX_OF_CLIENT = 4  # minuet asks three at once


class Job:
    """A request that waits for the model or is being answered; belongs to the event loop.

    Args:
        work: answers it; called in the thread of the model with this job.
    """

    def __init__(self, work: Callable[["Job"], Any]) -> None:
        self.work = work
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._cancelled = Event()
        self._loop = asyncio.get_running_loop()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more; may be asked in any thread."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Tell the model that nobody waits any more."""
        self._cancelled.set()

    def emit(self, piece: str) -> None:
        """Hand a part of the answer to whoever waits; called in the thread of the model."""
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """Set the answer, or the error in its place, and end the parts."""
        if not self.answer.done():
            if error is None:
                self.answer.set_result(result)
            else:
                self.answer.set_exception(error)
                self.answer.exception()  # it may be that nobody waits: this is no error of its own
        self.pieces.put_nowait(None)


class RequestQueue:
    """Answers requests one after the other in a thread of their own; belongs to the event loop."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # by client, the next to be served first
        self._filled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._running: Job | None = None

    def submit(self, client: str, work: Callable[[Job], Any]) -> Job:
        """Let a request wait for the model.

        If the client has too many waiting requests, the oldest of them is refused in place of this one: editors send a
        request at each pause in typing, and want the last one answered.

        Raises:
            Refused: the requests of all clients are too many.
        """
        waiting = self._waiting.get(client, deque())
        if len(waiting) < MAX_OF_CLIENT and sum(map(len, self._waiting.values())) >= MAX_WAITING:
            raise Refused(503, f"{MAX_WAITING} requests are waiting already: ask again later")
        job = Job(work)
        self._waiting.setdefault(client, waiting).append(job)
        if len(waiting) > MAX_OF_CLIENT:
            waiting.popleft().finish(error=Refused(503, "later requests of this client have taken its place"))
        self._filled.set()
        return job

    def cancel(self, job: Job) -> None:
        """Take a request out of the queue, or stop the model if it is being answered."""
        job.cancel()
        for client, waiting in list(self._waiting.items()):
            if job in waiting:
                waiting.remove(job)
                if not waiting:
                    del self._waiting[client]

    def stop(self) -> None:
        """Refuse the requests that wait, and stop the model."""
        for waiting in self._waiting.values():
            for job in waiting:
                job.finish(error=Refused(503, "the server ends"))
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> None:
        """Answer requests until this task is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._running = job = await self._next()
                try:
                    job.finish(await loop.run_in_executor(self._thread, job.work, job))
                except Exception as error:
                    job.finish(error=error)
                self._running = None
        finally:
            self.stop()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next(self) -> Job:
        """Wait for a request; clients take turns."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        client, waiting = self._waiting.popitem(last=False)
        job = waiting.popleft()
        if waiting:
            self._waiting[client] = waiting
        return job
