"""Clients take turns, of one client the oldest waiting request is dropped, and nothing waits without end."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from blocklm.serving.refused import Refused
from blocklm.serving.request_queue import MAX_OF_CLIENT, MAX_WAITING, Job, RequestQueue


def run(body: Callable[[RequestQueue], Any]) -> Any:
    """Run a coroutine with a queue that is being answered."""

    async def main() -> Any:
        queue = RequestQueue()
        worker = asyncio.create_task(queue.run())
        try:
            return await asyncio.wait_for(body(queue), 20)
        finally:
            worker.cancel()

    return asyncio.run(main())


def answers(order: list[Any], value: Any) -> Callable[[Job], Any]:
    """Work that answers a value, and notes it in the order of the answers."""

    def work(_: Job) -> Any:
        order.append(value)
        return value

    return work


def test_clients_take_turns() -> None:
    order: list[str] = []

    async def body(queue: RequestQueue) -> None:
        jobs = [queue.submit(name[0], answers(order, name)) for name in ("a1", "a2", "a3", "b1", "c1")]
        await asyncio.gather(*(job.answer for job in jobs))

    run(body)
    assert order == ["a1", "b1", "c1", "a2", "a3"]


def test_the_oldest_waiting_request_of_a_client_is_dropped() -> None:
    async def body(queue: RequestQueue) -> list[Any]:
        release = threading.Event()
        first = queue.submit("a", lambda _: release.wait(20))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        jobs = [queue.submit("a", answers([], number)) for number in range(MAX_OF_CLIENT + 2)]
        foreign = queue.submit("b", lambda _: "b")
        release.set()
        return await asyncio.gather(
            first.answer, foreign.answer, *(job.answer for job in jobs), return_exceptions=True
        )

    _, foreign, *own = run(body)
    assert foreign == "b"
    assert [answer.status for answer in own[:2]] == [503, 503]
    assert own[2:] == list(range(2, MAX_OF_CLIENT + 2))


def test_too_many_waiting_requests_are_refused() -> None:
    async def body(queue: RequestQueue) -> None:
        release = threading.Event()
        queue.submit("first", lambda _: release.wait(20))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(MAX_WAITING):
            queue.submit(f"{number}", lambda _: None)
        with pytest.raises(Refused) as refused:
            queue.submit("one more", lambda _: None)
        assert refused.value.status == 503
        release.set()

    run(body)


def test_a_cancelled_request_is_not_answered_and_a_running_one_is_told() -> None:
    answered: list[str] = []

    async def body(queue: RequestQueue) -> str:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work(job: Job) -> str:
            loop.call_soon_threadsafe(started.set)
            while not job.cancelled:
                pass
            return "told"

        running = queue.submit("a", work)
        waiting = queue.submit("a", lambda _: answered.append("a2"))
        last = queue.submit("a", lambda _: answered.append("a3"))
        await started.wait()
        queue.cancel(waiting)
        queue.cancel(running)
        await last.answer
        return str(await running.answer)

    assert run(body) == "told"
    assert answered == ["a3"]


def test_an_error_is_the_answer_and_the_next_request_is_served() -> None:
    async def body(queue: RequestQueue) -> list[Any]:
        def fail(_: Job) -> None:
            raise ZeroDivisionError

        jobs = [queue.submit("a", fail), queue.submit("a", lambda _: 2)]
        return await asyncio.gather(*(job.answer for job in jobs), return_exceptions=True)

    failed, answer = run(body)
    assert (type(failed), answer) == (ZeroDivisionError, 2)
