"""Measures how long an editor waits for the server: at a new place, there again, and after one more typed character.

The server runs in a process of its own, and is asked over its socket, with as many lines around a cursor as llama.vim
sends. The cursors stand in the middle of random lines of the repository's files.

With a server of llama.cpp that has the run's model, every second cursor is asked there without ours between, with the
tokens of our prompt. They are other cursors, because llama.cpp keeps prompts that it has read.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np

from blocklm.errors import UserError
from blocklm.formatting import plural
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import open_repository
from blocklm.git.trees import files_of, read_contents

PORT = 8019
PLACES = 20  # of each round
BEFORE_LINES, AFTER_LINES = 256, 64
LINE_TOKENS = 64
MIN_LINE_CHARS = 20
MAX_FILE_BYTES = 200_000
CASES = ("new place", "same again", "one more character")
LONGEST_START = 600  # seconds
Body = dict[str, Any]  # of a request


@dataclass(frozen=True, slots=True)
class Cursor:
    """Whole lines before a cursor, the line up to it, the text after it, and the next character."""

    before: str
    line: str
    after: str
    following: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Milliseconds until the first part of an answer and until its line is complete, and tokens that were read."""

    first: float
    line: float
    read: int


def serving_table(run: Path, paths: Sequence[Path], rounds: int, llama_cpp: str | None = None) -> Iterator[str]:
    """Yield the lines of a table: medians and 90th percentiles in milliseconds.

    Args:
        run: a completed run.
        paths: its repository.
        rounds: so many times `PLACES` cursors.
        llama_cpp: address of a server of llama.cpp that has the run's model; it continues the prompts then.

    Raises:
        UserError: the repository has too few lines for a cursor each, a server fails, or the run cannot be opened.
    """
    cursors = cursors_in(paths[0], rounds * PLACES)
    fewest = 3 if llama_cpp else 2  # one is asked first, and one of each server
    if len(cursors) < fewest:
        raise UserError(
            f"{plural(len(cursors), 'line')} of code in `{paths[0]}` are long enough for a cursor, and {fewest} are needed",
            "name a repository with more code with `--repo`",
        )
    with _serving(run, paths, llama_cpp):
        yield from waits_table(f"127.0.0.1:{PORT}", run, paths, cursors, llama_cpp)


def waits_table(
    ours: str, run: Path, paths: Sequence[Path], cursors: Sequence[Cursor], llama_cpp: str | None
) -> Iterator[str]:
    """Yield the lines of the table for a server that runs.

    Args:
        ours: host and port of the server.
        run: the run that it serves.
        paths: the run's repository.
        cursors: two or more, three with `llama_cpp`.
        llama_cpp: as for `serving_table`.

    Raises:
        UserError: a server fails.
    """
    _ask(ours, "/infill", _body(cursors[0], ""))  # the first request of a process is slower
    asked = cursors[1::2] if llama_cpp else cursors[1:]
    waits = _waits(asked, lambda body: _ask(ours, "/infill", body))
    yield f"{run} on {paths[0].resolve().name}: {plural(len(asked), 'cursor')}, lines of at most {LINE_TOKENS} tokens"
    yield f"  {'':20s} {'first ms, p50':>14s} {'p90':>7s} {'line ms, p50':>14s} {'p90':>7s} {'tokens read, p50':>17s}"
    yield from _lines(waits)
    if llama_cpp is None:
        return
    address, ids_of = urlsplit(llama_cpp).netloc, _prompt_ids(run, paths)
    alone = _waits(
        cursors[2::2],
        lambda body: _ask(
            address, "/completion", body | {"prompt": ids_of(body), "temperature": 0, "cache_prompt": True}
        ),
    )
    yield f"llama.cpp alone at {llama_cpp}: {plural(len(cursors[2::2]), 'other cursor')}"
    yield from _lines(alone)
    ratios = (
        f"{case} {statistics.median(w.line for w in waits[case]) / statistics.median(w.line for w in alone[case]):.2f}"
        for case in CASES
    )
    yield f"  line, ours against llama.cpp alone, ratio of medians: {', '.join(ratios)}"


def _waits(cursors: Sequence[Cursor], ask: Callable[[Body], Wait]) -> dict[str, list[Wait]]:
    waits: dict[str, list[Wait]] = {case: [] for case in CASES}
    for cursor in cursors:
        for case, typed in zip(CASES, ("", "", cursor.following), strict=True):
            waits[case].append(ask(_body(cursor, typed)))
    return waits


def _lines(waits: dict[str, list[Wait]]) -> Iterator[str]:
    for case, found in waits.items():
        first, line = ([getattr(wait, name) for wait in found] for name in ("first", "line"))
        read = statistics.median(wait.read for wait in found)
        yield (
            f"  {case:20s} {statistics.median(first):14.0f} {_p90(first):7.0f} "
            f"{statistics.median(line):14.0f} {_p90(line):7.0f} {read:17.0f}"
        )


def _prompt_ids(run_dir: Path, paths: Sequence[Path]) -> Callable[[Body], list[int]]:
    """Return a function that words a request to `/infill` as the server does, and gives its token ids."""
    from blocklm.runs.completed import open_run  # heavy, as the next
    from blocklm.serving.protocols import infill
    from blocklm.serving.protocols.fields import Fields
    from blocklm.serving.served import Switches, prompts_of

    prompts = prompts_of(open_run(run_dir, ["--repo", *map(str, paths)]), Switches())
    return lambda body: list(prompts.word(infill.parse(Fields(body)).question).ids)


def _p90(values: Sequence[float]) -> float:
    return float(np.percentile(values, 90))


@contextmanager
def _serving(run: Path, paths: Sequence[Path], llama_cpp: str | None) -> Iterator[None]:
    script = Path(__file__).parents[2] / "scripts" / "serve.py"
    command = [sys.executable, str(script), str(run), "--port", f"{PORT}", "--repo", *map(str, paths)]
    command += ["--engine_url", llama_cpp] if llama_cpp else []
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(LONGEST_START):
            if server.poll() is not None:
                raise UserError("the server has ended", "its message is above")
            try:
                urlopen(f"http://127.0.0.1:{PORT}/health").close()
                break
            except URLError:
                time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait()


def _body(cursor: Cursor, typed: str) -> Body:
    return {
        "input_prefix": cursor.before, "prompt": cursor.line + typed, "input_suffix": cursor.after,
        "n_predict": LINE_TOKENS, "stop": ["\n"], "stream": True,
    }  # fmt: skip


def _ask(address: str, path: str, body: Body) -> Wait:
    connection = HTTPConnection(address)
    started = time.perf_counter()
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer, first, last = connection.getresponse(), 0.0, Body()
    while line := answer.readline():
        if line.startswith(b"data: "):
            first = first or time.perf_counter() - started
            last = json.loads(line.removeprefix(b"data: "))
    connection.close()
    if answer.status != 200 or "timings" not in last:
        raise UserError(f"{address}{path} has answered with status {answer.status}", "see what that server logs")
    return Wait(1000 * first, 1000 * (time.perf_counter() - started), last["timings"]["prompt_n"])


def cursors_in(path: Path, count: int) -> list[Cursor]:
    """Choose cursors in the middle of lines of the repository's files."""
    repository, chance = open_repository(path, path), random.Random(0)
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        blobs = sorted(
            {
                file.blob
                for file in files_of(environment, repository.head)
                if file.path.endswith((".py", ".rs", ".go", ".js", ".ts", ".c", ".cpp", ".java"))
                and file.size <= MAX_FILE_BYTES
            }
        )
        texts = [content.decode(errors="replace") for _, content in read_contents(environment, blobs)]
    found = []
    for text in texts:
        lines = text.split("\n")
        for number in (number for number, line in enumerate(lines) if len(line.strip()) >= MIN_LINE_CHARS):
            found.append((lines, number))
    return [_cursor(lines, number) for lines, number in chance.sample(found, min(count, len(found)))]


def _cursor(lines: Sequence[str], number: int) -> Cursor:
    line = lines[number]
    middle = (len(line) + len(line) - len(line.lstrip())) // 2
    before = "".join(f"{text}\n" for text in lines[max(0, number - BEFORE_LINES) : number])
    # What is typed replaces the rest of the line, so that the answer is a line.
    after = "\n" + "\n".join(lines[number + 1 : number + 1 + AFTER_LINES])
    return Cursor(before, line[:middle], after, line[middle : middle + 1])
