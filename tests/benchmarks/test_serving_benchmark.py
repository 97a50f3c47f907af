"""The wait for the server is measured beside llama.cpp alone, which is asked with the tokens of the same prompts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.benchmarks.serving import cursors_in, waits_table
from blocklm.errors import UserError
from blocklm.runs.completed import open_run
from blocklm.serving.served import Switches, serve_from
from tests.conftest import GitRepository
from tests.serving.conftest import running
from tests.support.loopback_engine import server
from tests.support.scripts import refused, run_in_process


@pytest.mark.parametrize("count", [3, 8])
def test_ours_and_llama_cpp_alone_continue_prompts_of_other_cursors(
    count: int, taught: Path, lamps: GitRepository
) -> None:
    run = open_run(taught, ["--repo", str(lamps.path), "--corpus_dir", str(taught.parent / "corpora")])
    cursors = cursors_in(lamps.path, count)
    with server(llama_cpp=True) as (url, asked), running(serve_from(run, url, Switches())) as client:
        table = waits_table(client.base_url.netloc.decode(), taught, [lamps.path], cursors, url)
        title, _, *ours, alone_title, new, again, more, ratios = table
    of_each = (count // 2, (count - 1) // 2)
    assert f"run on house: {of_each[0]} cursor" in title
    assert alone_title.startswith(f"llama.cpp alone at {url}: {of_each[1]} other cursor")
    assert len(ours) == 3
    for line in (*ours, new, again, more):
        assert re.search(r"^  (new place|same again|one more character) +(\d+ +){4}2$", line), (
            "milliseconds, tokens read"
        )
    assert len(re.findall(r" \d+\.\d\d", ratios)) == 3
    assert {request["path"] for request in asked} == {"/completion"}
    assert all(request["cache_prompt"] and request["temperature"] == 0 for request in asked)
    ends = [run.tokenizer.decode(request["prompt"])[-12:] for request in asked]
    first, others = 1 + 3 * of_each[0], [cursor.line[-12:] for cursor in cursors[2::2]]
    assert len(asked) == first + 3 * of_each[1]
    assert ends[first::3] == ends[first + 1 :: 3] == others, "worded by us, and asked twice"


def test_a_server_that_answers_otherwise_is_an_error(taught: Path, lamps: GitRepository) -> None:
    with server(llama_cpp=True, status=500) as (url, _), pytest.raises(UserError, match="status 500"):
        list(waits_table(url.removeprefix("http://"), taught, [lamps.path], cursors_in(lamps.path, 3), url))


def test_a_repository_of_too_few_lines_is_refused_before_the_server_starts(
    make_repository: Callable[[str], GitRepository], tmp_path: Path
) -> None:
    repository = make_repository("short")
    repository.commit("Short", {"a.py": "x = 1\nthe_only_long_line_of_code = 1\n"})
    given = ("serving", "--run", tmp_path / "no-run", "--repo", repository.path)
    message = refused(run_in_process("benchmark.py", *given, cwd=tmp_path))
    assert "1 line of code in" in message
