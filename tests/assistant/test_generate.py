"""Each kind of request gets its answer, shown safely, with its origins, or is refused in one clear line."""

import io
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.attribution import Attributor
from blocklm.assistant.diff_input import pasted_hunks
from blocklm.assistant.file_region import region_of
from blocklm.assistant.prompts import Request
from blocklm.assistant.streaming import Terminal
from blocklm.corpus.build import Corpus
from blocklm.corpus.prompt_templates import FAMILY, Prompt
from blocklm.errors import UserError
from blocklm.formatting import printable
from blocklm.mining.filters import FilterLimits
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import CompletedRun, open_run
from tests.conftest import ROOT, GitRepository
from tests.support.scripts import run_in_process, run_script, script_environment

GAP = ["--prefix", "LAMPS = [\n    lantern, lantern,", "--suffix", "\n]\n", "--file", "src/lamps.py"]
LIMITS = FilterLimits(max_changed_lines=1000)


@dataclass(frozen=True)
class Result:
    """Result of a command: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Ask = Callable[..., Result]


@pytest.fixture(scope="module")
def run(taught: Path) -> CompletedRun:
    return open_run(taught)


@pytest.fixture(scope="module")
def corpus(run: CompletedRun, taught: Path) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(taught.parent)  # where its `corpora` are
        return run.corpus()


@pytest.fixture(scope="module")
def samples(corpus: Corpus) -> Dataset:
    return corpus.splits["train"]


@pytest.fixture
def ask(taught: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run the script in this process, because importing torch for each question would take longer than all answers."""
    monkeypatch.chdir(taught.parent)

    def asked(*arguments: str | Path, stdin: bytes = b"", run: Path = taught) -> Result:
        done = run_in_process("generate.py", run, *arguments, cwd=Path.cwd(), stdin=stdin)
        return Result(done.returncode, done.stdout, done.stderr)

    return asked


def answer(run: CompletedRun, request: Request, tokens: int = 200) -> str:
    (output,) = Assistant(run, Decoding(tokens)).answers([request])
    return output.text


def origins_of(errors: str) -> list[str]:
    """The lines of the table of nearest commits, and the warning below it."""
    return errors.split("path, subject)\n")[1].splitlines()


def test_an_edit_is_made_and_its_training_commit_is_named(taught: Path, lamps: GitRepository, tmp_path: Path) -> None:
    """Stdout has the answer alone."""
    (tmp_path / "house" / ".git").mkdir(parents=True)
    file = tmp_path / "house" / "lamps.py"
    file.write_text("LAMPS = [\n]\n")
    edit = ("--file", file, "--lines", "1-2", "--instruction", "Light every lamp of the house")
    done = run_script("generate.py", taught, *edit, "--why", cwd=taught.parent)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?:    (?:lantern, )+lantern,\n){3}", done.stdout), done.stdout
    assert done.stdout.endswith("\n")
    sha = lamps.git("log", "--format=%H", "--grep", "every lamp").strip()
    table = origins_of(done.stderr)
    assert 1 <= len(table) - 1 <= 5
    assert any(
        re.fullmatch(rf" +\d+\.\d  2023-11-14  {sha[:12]}  src/lamps.py  Light every lamp of the house", line)
        for line in table
    ), done.stderr
    assert table[-1] == f"warning: 50 tokens or more in a row stand word for word in {sha[:12]} src/lamps.py"
    assert "Building index" not in done.stderr


def test_a_completion_is_written_where_the_cursor_is(ask: Ask) -> None:
    """In the middle of a line, up to the end of another; its training commit is named."""
    result = ask(*GAP, "--why")
    assert result.out == " lantern,\n    lantern, lantern, lantern,\n"
    assert "src/lamps.py  Light every lamp of the house" in origins_of(result.err)[0]


def test_the_prompt_of_an_edit_is_that_of_training(
    run: CompletedRun, samples: Dataset, lamps: GitRepository, tmp_path: Path
) -> None:
    """The file as it was before each commit, at the lines that its hunk shows, with its subject as the instruction."""
    builder, found = Assistant(run, Decoding(9)).prompt_builder, 0
    (tmp_path / "house" / ".git").mkdir(parents=True)
    file = tmp_path / "house" / "src" / "steps.py"
    file.parent.mkdir()
    for sample in samples.filter(lambda row: row["view"] == "edit" and row["path"] == "src/steps.py"):
        patch = lamps.git("show", "--format=%s", sample["commit"])
        hunk = re.search(r"^@@ -(\d+)(?:,(\d+))? ", patch, re.MULTILINE)
        assert hunk
        if int(hunk[1]) == 0:
            continue  # the file's first commit changes no line
        file.write_text(lamps.git("show", f"{sample['commit']}^:src/steps.py"))
        region = region_of(file, int(hunk[1]), int(hunk[1]) + int(hunk[2]) - 1)
        request = builder.change(region.text, patch.partition("\n")[0], region.path, region.root)
        assert (request.prompt.text, list(request.prompt.context)) == (sample["prompt"], sample["context"])
        found += 1
    assert found >= 5


def test_the_prompt_at_a_cursor_is_that_of_training(run: CompletedRun, corpus: Corpus) -> None:
    """Of an editor that tells the path, where the commit had changed nothing else before."""
    builder, found = Assistant(run, Decoding(9)).prompt_builder, 0
    rows = corpus.splits["train"].filter(lambda row: row["view"] == "completion")
    columns = corpus.places.fill(rows[:], 512)
    for path, prompt, context, suffix in zip(
        *(columns[name] for name in ("path", "prompt", "context", "suffix")), strict=True
    ):
        if path in prompt:
            request = builder.gap(prompt[slice(*context)], prompt[slice(*suffix)], path)
            assert request.prompt == Prompt(prompt, context, suffix)
            found += 1
    assert found >= 5


def test_text_around_a_cursor_is_not_changed(run: CompletedRun) -> None:
    """The cursor may stand in the middle of a line; an edit replaces complete lines."""
    builder = Assistant(run, Decoding(9)).prompt_builder
    prompt = builder.gap("def area(r", "):\n    return a").prompt
    assert (prompt.text[slice(*prompt.context)], prompt.text[slice(*prompt.suffix)]) == (
        "def area(r",
        "):\n    return a",
    )
    assert prompt.text.endswith("def area(r")
    assert builder.change("a = 1", "Set it to 2") == builder.change("a = 1\n", "Set it to 2")


def test_a_run_made_before_there_were_completions_is_asked_as_it_was_taught(run: CompletedRun) -> None:
    """For whole lines, between at most 700 and 300 characters: it learned `fim`."""
    builder = replace(Assistant(run, Decoding(9)).prompt_builder, families={"fim": FAMILY["plain"]})
    middle = "### the lines below follow after a gap\n"
    asked = builder.gap("def area(r):", "    return a", "a.py").prompt
    assert asked.text == f"### house/a.py\ndef area(r):\n{middle}    return a\n### the missing lines\n"
    assert builder.gap("def area(r):", "\n    return a\n", "a.py").prompt == asked, "as `--line` asks"
    before, after = builder.gap("x = 1\n" * 200, "y = 2\n" * 200, "a.py").prompt.text.split(middle)
    assert (before.count("x = 1\n"), after.count("y = 2\n")) == (116, 50)


@pytest.mark.parametrize(
    "settings", [[], ["-c", "diff.noprefix=true"], ["-c", "diff.mnemonicPrefix=true"], ["-c", "core.abbrev=40"]]
)
def test_the_prompt_of_a_message_is_that_of_training(
    run: CompletedRun, samples: Dataset, lamps: GitRepository, settings: list[str]
) -> None:
    """This holds for every diff setting of git, and with the header that `git show` prints."""
    builder = Assistant(run, Decoding(9)).prompt_builder
    asked = [row for row in samples if row["view"] == "message"]
    for row in asked:
        request = builder.subject(lamps.git(*settings, "show", row["commit"]))
        assert (request.prompt.text, list(request.prompt.context)) == (row["prompt"], row["context"])
        assert request.lines == 1
    assert len(asked) >= 5


def test_each_kind_of_request_gets_its_answer(
    ask: Ask, run: CompletedRun, lamps: GitRepository, tmp_path: Path
) -> None:
    builder = Assistant(run, Decoding(9)).prompt_builder
    text = "LAMPS = [\n"
    assert ask("--prompt", text).out == ask(stdin=text.encode()).out == shown(answer(run, builder.text(text)))

    file = lamps.path / "src" / "steps.py"
    lines = file.read_text().splitlines(keepends=True)
    gap = builder.gap("".join(lines[:39]), "\n" + "".join(lines[39:]), "src/steps.py")
    assert ask("--file", file, "--line", "40").out == shown(answer(run, gap))

    edit = builder.change("".join(lines[5:10]), "Add step 2", "src/steps.py")
    result = ask("--file", file, "--lines", "6-10", "--instruction", "Add\n step 2")
    assert result.out == shown(answer(run, edit)) != ""

    diff = lamps.git("show", "HEAD~3")
    result = ask("--view", "message", stdin=diff.encode())
    assert result.out == answer(run, builder.subject(diff))
    assert result.out.startswith("Add step") and result.out.count("\n") == 1


def shown(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def test_batched_answers_equal_single_answers(ask: Ask, lamps: GitRepository) -> None:
    """They come in the order of the questions, not of their lengths, and keep the other keys of their lines."""
    rows = [
        {"prompt": "lantern", "id": "first"},
        {"prefix": "def step_7(value):\n" * 20, "suffix": "\n", "path": "src/steps.py"},
        {"before": "def step_1(value):\n", "instruction": "Add step 2", "path": "src/steps.py"},
        {"diff": lamps.git("show", "HEAD~3")},
        {"prompt": "é"},
    ]
    stdin = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    result = ask("--batch", "--base", "too", "--why", stdin=stdin)
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert result.out.isascii()
    assert [{key: line[key] for key in row} for row, line in zip(rows, answers, strict=True)] == rows
    alone = [
        ask("--prompt", rows[0]["prompt"]),
        ask("--prefix", rows[1]["prefix"], "--suffix", "\n", "--file", "src/steps.py"),
        None,
        ask("--view", "message", stdin=rows[3]["diff"].encode()),
        ask("--prompt", "é"),
    ]
    for line, one in zip(answers, alone, strict=True):
        assert one is None or printable(shown(line["output"])) == one.out
    assert answers[3]["ended"] and not answers[0]["base_ended"]
    base = ask("--prompt", rows[0]["prompt"], "--base")
    assert printable(shown(answers[0]["base_output"])) == base.out != alone[0].out  # type: ignore[union-attr]
    first = answers[0]["origins"][0]
    assert first["path"] == "src/lamps.py"
    assert first["subject"] == "Light every lamp of the house"


def test_both_models_answer_one_after_the_other(ask: Ask) -> None:
    result = ask("--prompt", "LAMPS = [\n", "--base", "too", "--max_new_tokens", "9")
    parts = [ask("--prompt", "LAMPS = [\n", *base, "--max_new_tokens", "9").out for base in ([], ["--base"])]
    assert result.out == "".join(parts)
    assert result.err.index("tuned:") < result.err.index("base:")


def test_answers_are_drawn_by_the_seed(ask: Ask) -> None:
    def drawn(seed: str) -> str:
        return ask("--prompt", "def step_", "--temperature", "2", "--seed", seed, "--max_new_tokens", "20").out

    assert drawn("1") == drawn("1") != drawn("2")


def test_a_prompt_that_is_too_long_is_cut_at_its_beginning_with_a_warning(ask: Ask, run: CompletedRun) -> None:
    """The tiny model reads 1024 tokens."""
    long, short = "x = 1\n" * 2000, "x = 1\n" * 50
    result = ask("--prompt", long + "LAMPS = [\n", "--max_new_tokens", "24")
    assistant = Assistant(run, Decoding(24))
    (kept,) = assistant.tokens([assistant.prompt_builder.text(long + "LAMPS = [\n")])
    assert 990 < len(kept) <= 1000, "it begins with a complete line"
    assert result.code == 0
    assert f"the prompt: its beginning is left out, {len(kept)} tokens are read" in result.err
    assert run.tokenizer.decode(kept).endswith("x = 1\nLAMPS = [\n")
    (edit,) = assistant.tokens([assistant.prompt_builder.change(long, "Add step 2", "src/steps.py")])
    assert run.tokenizer.decode(edit).startswith("### house/src/steps.py\n### Add step 2\noriginal:\n")
    assert "left out" not in ask("--prompt", short, "--max_new_tokens", "24").err


@pytest.mark.parametrize(
    ("arguments", "stdin", "error"),
    [
        ([], b"", "the prompt is empty"),
        (["--prompt", "x", "--max_new_tokens", "1024"], b"", "leaves no space for a prompt: the model reads 1024 tokens"),
        (["--prompt", "x", "--max_new_tokens", "0"], b"", "at least one token"),
        (["--prompt", "x", "--temperature", "-1"], b"", "at a temperature of at least 0"),
        (["--prompt", "x", "--temperature", "nan"], b"", "at a temperature of at least 0"),
        (["--prompt", "x", "--seed", str(2**64)], b"", "is no number of 64 bits"),
        (["--prompt", "x", "--view", "message"], b"", "two things are asked at once"),
        (["--prompt", "x", "--file", "a.py"], b"", "two things are asked at once"),
        (["--batch", "--view", "message"], b"", "two things are asked at once"),
        (["--prompt", "\udcff"], b"", "the prompt holds bytes that are no UTF-8 text"),
        (["--line", "4"], b"", "lines without a file"),
        (["--file", "a.py"], b"", "does not say which lines"),
        (["--file", "a.py", "--line", "1", "--instruction", "x"], b"", "an instruction needs lines"),
        (["--file", "a.py", "--lines", "ten", "--instruction", "x"], b"", "`--lines ten` names no lines"),
        (["--file", "a.py", "--lines", "2-1", "--instruction", "x"], b"", "ends before it begins"),
        (["--file", "a.py", "--lines", "2-4", "--instruction", "x"], b"", "has 3 lines, and 4 is asked for"),
        (["--file", "a.py", "--line", "5"], b"", "has 3 lines, and 5 is asked for"),
        (["--file", "a.py", "--line", "0"], b"", "has 3 lines, and 0 is asked for"),
        (["--file", "none.py", "--line", "1"], b"", "`--file` none.py cannot be read: No such file"),
        (["--file", "latin.py", "--line", "1"], b"", "is not UTF-8 text"),
        (["--prefix", "a <|endoftext|> b"], b"", "holds `<|endoftext|>`"),
        (["--view", "message"], b"", "no unified diff on stdin"),
        (["--view", "message"], b"no diff\n", "no unified diff on stdin"),
        (["--batch"], b'{"prompt": "x"}\n{"prompt": ', "line 2: "),
        (["--batch"], b'{"prompt": "x"}\n{"pormpt": "x"}', "line 2: {'pormpt': 'x'} asks nothing"),
        (["--batch"], b'["prompt"]', "line 1: ['prompt'] asks nothing"),
        (["--batch"], b'{"prompt": 3}', "line 1: {'prompt': 3} asks nothing"),
        (["--batch"], b"\xff", "line 1: "),
        (["--batch"], b"[" * 100_000, "line 1: "),
        (["--batch"], b'{"prompt": "x"}\n\n{"prompt": "\\ud800"}', "line 3 holds bytes that are no UTF-8 text"),
        (["--batch"], b'{"prompt": "x"}\n\n{"prompt": ""}', "line 3 is empty"),
        (["--prompt", "x", "--why", "--repo", "gone", "--corpus_dir", "empty"], b"", "`repo` gone does not exist"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_refused_in_two_lines(
    ask: Ask, taught: Path, arguments: list[str], stdin: bytes, error: str
) -> None:
    (taught.parent / "a.py").write_text("a = 1\nb = 2\nc = 3\n")
    (taught.parent / "latin.py").write_bytes(b"# \xe9\n")
    result = ask(*arguments, stdin=stdin)
    assert (result.code, result.out) == (2, "")
    refusal = re.search(r"^error: (.*)\nhint: .+\n", result.err, re.MULTILINE)
    assert refusal and error in refusal[1], result.err


def test_the_corpus_may_have_been_moved(
    ask: Ask, lamps: GitRepository, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = ["--repo", lamps.path, "--corpus_dir", taught.parent / "corpora"]
    result = ask("--prompt", "lantern", "--why", *places)
    assert (result.code, list(tmp_path.iterdir())) == (0, [])
    assert "Light every lamp of the house" in result.err


def test_an_incomplete_run_is_refused(ask: Ask, taught: Path, tmp_path: Path) -> None:
    shutil.copytree(taught, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(taught, tmp_path / "torn", ignore=shutil.ignore_patterns("adapter_config.json"))
    for run, error in (
        ("gone", "is not a complete run"),
        ("bare", "is gone"),
        ("torn", "no trained model"),
    ):
        result = ask("--prompt", "x", run=tmp_path / run)
        assert (result.code, result.out) == (2, "")
        assert error in result.err and "\nhint: " in result.err


def test_a_view_that_was_not_trained_is_refused(run: CompletedRun) -> None:
    builder = Assistant(run, Decoding(9)).prompt_builder
    fewer = replace(builder, families={"message": builder.families["message"]})
    with pytest.raises(UserError, match="did not learn the view `edit`"):
        fewer.change("x\n", "Change it")
    with pytest.raises(UserError, match="did not learn the view `completion`"):
        fewer.gap("x = ", "")


def test_lines_are_counted_as_git_counts_them(tmp_path: Path) -> None:
    """A form feed, a lone carriage return and a line separator end no line; line ends are not changed."""
    (tmp_path / "top" / ".git").mkdir(parents=True)
    file = tmp_path / "top" / "src" / "a.py"
    file.parent.mkdir()
    file.write_bytes("one\x0c\u2028\rone\r\ntwo\nthree".encode())
    region = region_of(file, 2, 2)
    assert (region.before, region.text, region.after) == ("one\x0c\u2028\rone\r\n", "two\n", "three\n")
    assert (region.path, region.root.name) == ("src/a.py", "top")
    end = region_of(file, 4)
    assert (end.text, end.after) == ("", "")
    assert end.before.endswith("three\n")


def test_of_a_large_file_a_part_around_the_line_is_read(tmp_path: Path) -> None:
    """About as much as a training sample shows."""
    file = tmp_path / "a.py"
    file.write_text("".join(f"line_{number:05}\n" for number in range(6000)))
    region = region_of(file, 3001)
    assert (len(region.before), len(region.after), region.text) == (4_000, 1_500, "")
    assert region.before.endswith("line_02999\n") and region.after.startswith("line_03000\n")


def test_more_lines_than_in_training_cause_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1\n" * 60)
    region_of(file, 1, 40)
    assert not caplog.records
    assert len(region_of(file, 1, 41).text) == 41 * 6
    assert "41 lines are more than a training sample showed at once" in caplog.text


STEP = "--- a/src/a.py\n+++ b/src/a.py\n@@ -1,2 +1,3 @@ def a():\n one = 1\n+two = 2\n three = 3\n"


def test_text_that_looks_like_a_header_is_text() -> None:
    diff = "--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1,2 @@\n--- a/old\n+++ b/new = 1\n select\n@@ -9 +9 @@\n-x1\n+y1\n"
    assert [(hunk.path, list(hunk.lines)) for hunk in pasted_hunks(diff, "house", LIMITS)] == [
        ("q.sql", ["--- a/old", "+++ b/new = 1", " select"]),
        ("q.sql", ["-x1", "+y1"]),
    ]


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("--- a/src/a.py\n+++ b/src/a.py\n", "src/a.py"),
        ("--- src/a.py\n+++ src/a.py\n", "src/a.py"),
        ("--- b/a.py\n+++ b/a.py\n", "b/a.py"),
        ("--- i/a.py\n+++ w/a.py\n", "a.py"),
        ("--- /dev/null\n+++ b/a.py\n", "a.py"),
        ("--- a/a.py\t2024-01-01 00:00:00\n+++ b/a.py\t2024-01-02 00:00:00\n", "a.py"),
        ('--- "a/\\303\\244.py"\n+++ "b/\\303\\244.py"\n', "ä.py"),
    ],
)  # fmt: skip
def test_paths_are_read_as_diffs_write_them(header: str, path: str) -> None:
    (hunk,) = pasted_hunks(f"{header}@@ -1 +1,2 @@\n one\n+two\n", "house", LIMITS)
    assert hunk.path == path


def test_a_diff_in_a_mail_ends_by_its_line_counts() -> None:
    mail = f"Subject: Add two\n\n---\n src/a.py | 1 +\n\ndiff --git a/src/a.py b/src/a.py\n{STEP}-- \n2.39\n"
    (hunk,) = pasted_hunks(mail, "house", LIMITS)
    assert list(hunk.lines) == [" one = 1", "+two = 2", " three = 3"]
    cut = STEP.removesuffix(" three = 3\n")
    assert list(pasted_hunks(cut, "house", LIMITS)[0].lines) == [" one = 1", "+two = 2"]


def test_hunks_that_are_never_trained_on_are_shown_only_if_there_are_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    lock = STEP.replace("src/a.py", "uv.lock")
    assert [hunk.path for hunk in pasted_hunks(lock + STEP, "house", LIMITS)] == ["src/a.py"]
    assert "such changes were not learned from: uv.lock" in caplog.text
    assert [hunk.path for hunk in pasted_hunks(lock, "house", LIMITS)] == ["uv.lock"]
    gone = "--- a/a.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one = 1\n-two = 2\n"
    assert [hunk.path for hunk in pasted_hunks(gone, "house", LIMITS)] == ["a.py"]


def test_a_secret_in_a_diff_is_in_no_prompt(run: CompletedRun) -> None:
    key = "ghp_" + "k9Wz3TqLr7Yp1VxBn5Md8Hc2Js6Fg4Ae0UiO"
    request = Assistant(run, Decoding(9)).prompt_builder.subject(STEP.replace("two = 2", f'token = "{key}"'))
    assert key not in request.prompt.text
    assert '+token = "<KEY>"' in request.prompt.text


def test_of_a_long_hunk_the_beginning_is_shown(run: CompletedRun) -> None:
    builder = Assistant(run, Decoding(9)).prompt_builder
    body = "".join(f"+line_{number} = {number}\n" for number in range(300))
    prompt = builder.subject(f"--- /dev/null\n+++ b/a.py\n@@ -0,0 +1,300 @@\n{body}").prompt.text
    assert prompt.startswith("### house\n--- a.py\n+line_0 = 0\n") and prompt.endswith("### commit message\n")
    assert 1300 < len(prompt) < 1500
    with pytest.raises(UserError, match="too long to be shown"):
        builder.subject(f"--- a/a.js\n+++ b/a.js\n@@ -1 +1 @@\n-{'x' * 1500}\n+{'y' * 1500}\n")


def test_the_nearest_commit_is_the_one_that_added_it(run: CompletedRun, samples: Dataset, taught: Path) -> None:
    """Later commits show the same lines as context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(taught.parent)
        origins = Attributor(samples, run.tokenizer, run.changes.subjects)
        subjects = [origins.of("", f"def step_{number}(value):\n").nearest[0].subject for number in (2, 7, 9)]
        assert subjects == ["Add step 2", "Add step 7", "Add step 9"]
        assert [one.subject for one in origins.of("", "8").nearest] == ["Add step 8"]
        assert len({one.commit for one in origins.of("", "return value").nearest}) == 5
        assert origins.of("", "x").nearest == origins.of("", "!?").nearest == []


def test_fifty_tokens_in_a_row_are_verbatim_unless_the_prompt_shows_them(run: CompletedRun, samples: Dataset) -> None:
    origins = Attributor(samples, run.tokenizer, lambda commits: {})
    text = next(row["completion"] for row in samples if "lantern" in row["completion"])
    offsets = run.tokenizer(text, return_offsets_mapping=True).offset_mapping
    exact, less = text[: offsets[49][1]], text[: offsets[48][1]]
    assert [len(run.tokenizer(some).input_ids) for some in (exact, less)] == [50, 49]
    assert {path for _, path in origins.of("", f"?!{exact}?!").verbatim} == {"src/lamps.py"}
    assert origins.of("", exact).verbatim
    assert origins.of("", f"?!{less}?!").verbatim == []
    assert origins.of(f"# {exact}", exact).verbatim == []


class Pieces(io.StringIO):
    """A stream that records each piece written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def streamed(run: CompletedRun, text: str, lines: int | None = None) -> list[str]:
    """Return what a terminal gets of an answer whose tokens come one by one."""
    to = Pieces()
    terminal = Terminal(run.tokenizer, lines, to)
    terminal.put(torch.tensor([[1, 2, 3]]))
    for token in run.tokenizer(text).input_ids:
        terminal.put(torch.tensor([token]))
    terminal.put(torch.tensor([run.tokenizer.eos_token_id]))
    terminal.end()
    return to.pieces


def test_an_answer_is_shown_as_it_grows_without_its_end(run: CompletedRun) -> None:
    pieces = streamed(run, "one two three\nfour")
    assert "".join(pieces) == "one two three\nfour\n"
    assert len([piece for piece in pieces if piece]) >= 4
    assert "".join(streamed(run, "one\ntwo\nthree", lines=1)) == "one\n"
    assert "".join(streamed(run, "one\ntwo\nthree", lines=2)) == "one\ntwo\n"
    assert "".join(streamed(run, "")) == ""


def test_control_characters_of_an_answer_are_escaped(run: CompletedRun) -> None:
    evil = "a\x1b[2Jb\x9bc\u202ed\u2066e\x07f\x7fg\u2028h\u200bi\U000e0041j\rk"
    safe = r"a\x1b[2Jb\x9bc\u202ed\u2066e\x07f\x7fg\u2028h\u200bi\U000e0041j\rk"
    assert printable(evil) == safe
    assert "".join(streamed(run, evil)) == f"{safe}\n"
    kept = "tab\tline\r\nend \u00e9\u3000\u200d\u4e2d\n"
    assert printable(kept) == "".join(streamed(run, kept)) == kept


def in_console(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a console that cannot resume, and return how it ends."""
    code = f"import os, signal, time\nfrom blocklm.console import console\nwith console(resumes=False):\n    {code}\n"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=script_environment() | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_terminal_without_a_character_shows_its_escape() -> None:
    done = in_console(r"print('a\u2026b')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\u2026b\n", "")


def test_an_interrupted_script_that_cannot_resume_does_not_promise_to() -> None:
    done = in_console("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")


def test_a_closed_pipe_ends_a_script_without_a_message(tmp_path: Path) -> None:
    code = (
        "from blocklm.console import console\n"
        "with console():\n    [print('x' * 80, flush=True) for _ in range(100000)]\n"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -c \"$1\" | head -n 1", "-", code],
        cwd=ROOT, env=script_environment() | {"PYTHONUNBUFFERED": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_plain_prompt_may_contain_special_tokens(run: CompletedRun) -> None:
    """It goes to the model unchanged, because its author knows the model's tokens."""
    builder = Assistant(run, Decoding(9)).prompt_builder
    assert builder.text("<|endoftext|>").prompt == Prompt("<|endoftext|>", (0, 13))
