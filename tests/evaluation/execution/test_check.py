"""Right edits pass the repository's check, wrong ones fail, and edits without a result are left out."""

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

from blocklm.config.check import CheckArguments, check_checks
from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import build_corpus
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.evaluation.execution.check import check_edits, compare_pass_rates, pass_at
from blocklm.evaluation.execution.limits import ResourceLimits
from blocklm.evaluation.execution.runner import Edit, Trial, Verdict, count_failures
from blocklm.evaluation.execution.worktree import Tree, tree_of
from blocklm.evaluation.questions import GenerationTask
from blocklm.git.repository import Repository, open_repository
from blocklm.mining.mine import mine
from blocklm.models.pretrained import special_tokens
from blocklm.models.source import ModelSource
from blocklm.runs.report.exam_text import exam_text
from tests.conftest import GitRepository
from tests.support.scripts import run_script

LIMITS = ResourceLimits(20, 1 << 30, 64 << 20)
PYTHON = Path(sys.executable).resolve()
BINDS = [] if PYTHON.is_relative_to("/usr") else [Path(sys.base_prefix)]
CHECK = f"{PYTHON} tests.py"
installed = pytest.mark.usefixtures("bubblewrap")


def shop(number: int) -> dict[str, str]:
    """A package, and a test that each of its commits changes with it."""
    prices = "".join(
        f'def price_{at}(count):\n    """Price of so many of kind {at}."""\n    return {at} * count\n\n\n'
        for at in range(number + 1)
    )
    calls = "".join(f"assert shop.price_{at}(3) == {at} * 3\n" for at in range(number + 1))
    return {
        "shop/__init__.py": "from shop.prices import *\n",
        "shop/prices.py": prices,
        "tests.py": f"import shop\n{calls}",
    }


@pytest.fixture(scope="module")
def shop_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits, each of which adds a function and its test; never changed by a test."""
    repository = GitRepository(tmp_path_factory.mktemp("shops") / "shop")
    for number in range(40):
        repository.commit(f"Sell kind {number}", dict(shop(number)))
    return repository.path


@pytest.fixture
def opened(shop_path: Path, tmp_path: Path) -> Repository:
    return open_repository(shop_path, tmp_path)


def question(commit: str, truth: str, path: str = "shop/prices.py") -> GenerationTask:
    return GenerationTask("q", "edit", "", (), truth, "Python", path, commit)


@pytest.fixture
def trial(opened: Repository, tmp_path: Path) -> Iterator[Trial]:
    with Answers(tmp_path / "answers.jsonl") as answers:
        yield Trial([opened], CHECK, LIMITS, BINDS, answers)


@installed
def test_right_edits_pass_and_wrong_ones_fail(
    trial: Trial, opened: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The commit's test is kept, so an edit without the function fails; an edit is never run twice."""
    truth = 'def price_39(count):\n    """Price of so many of kind 39."""\n    return 39 * count\n'
    asked = question(opened.head, truth)
    written = {
        truth: "passed",
        "def price_39(count):\n    return count * 39\n": "passed",
        "price_39 = lambda count: 39 * count": "passed",
        truth.replace("39 *", "38 *"): "failed",
        truth.replace("return", "retrun"): "failed",
        "": "failed",
        "while True:\n    pass\n": "timeout",
    }
    short = Trial(trial.repositories, CHECK, ResourceLimits(3, 1 << 30, 64 << 20), BINDS, trial.answers)
    edits = [Edit(asked, text) for text in written]
    found = short.verdicts(edits, "test")
    assert [verdict.kind for verdict in found] == list(written.values())
    assert "SyntaxError" in found[4].output
    assert count_failures(found) == {"failed": 3, "timeout": 1}
    for program in ("git", "chmod"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path))  # no bubblewrap
    with Answers(tmp_path / "answers.jsonl") as answers:
        again = Trial(trial.repositories, CHECK, short.limits, BINDS, answers)
        assert again.verdicts(edits[::-1], "test") == found[::-1]
    with pytest.raises(UserError, match="bwrap"):
        trial.verdicts(edits, "test")  # by other limits


def test_an_edit_without_a_place_is_not_run(trial: Trial, opened: Repository) -> None:
    nowhere = question(opened.head, "nothing of the kind\n")
    elsewhere = question("f" * 40, "x\n")
    assert trial.verdicts([Edit(nowhere, "x"), Edit(elsewhere, "x")], "test") == [
        Verdict("no place"),
        Verdict("no tree"),
    ]


@pytest.mark.parametrize(
    ("text", "truth", "filled"),
    [
        (b"a\nb\nc\n", "b\n", "a\nX\nc\n"),
        (b"a\nb\nc\n", "a\nb\n", "X\nc\n"),
        (b"a\nb\nc", "c\n", "a\nb\nX"),
        (b"a\nb", "a\nb\n", "X"),
        (b"a\nb\n\nc\n", "b\n\n", "a\nX\nc\n"),
        (b"a\nbb\nb\n", "b\n", "a\nbb\nX\n"),
        (b"a\nb\nb\n", "b\n", None),
        (b"a\nb\na\nb\na\n", "a\nb\na\n", None),
        (b"abc\n", "b\n", None),
        (b"a\r\nb\r\n", "b\n", None),
        (b"\xff\nb\n", "b\n", None),
    ],
)
def test_an_edit_has_one_place_or_none(text: bytes, truth: str, filled: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(text)
    tree = Tree(tmp_path)
    place = tree.place("file", truth)
    assert (place and place.filled("X\n")) == filled
    assert (place and place.filled("X")) == filled
    if place is not None:
        assert place.filled(truth).encode() == text
        with tree.holding("file", place.filled("ü\n")) as folder:
            assert (folder / "file").read_text() == place.filled("ü\n")
        assert (tmp_path / "file").read_bytes() == text


def test_a_tree_is_checked_out_verbatim_without_running_hooks_or_filters(
    make_repository: Callable[[str], GitRepository], tmp_path: Path
) -> None:
    repository = make_repository("evil")
    (repository.path / "tool.sh").write_text("#!/bin/sh\n")
    (repository.path / "tool.sh").chmod(0o755)
    (repository.path / "secret").symlink_to("/etc/hostname")
    (repository.path / "inside").symlink_to("tool.sh")
    files = {".gitattributes": "* filter=evil\nleft.txt export-ignore\n", "left.txt": "left\n", "a/b.txt": "b\n"}
    commit = repository.commit("Begin", dict(files))
    ran = tmp_path / "ran"
    repository.git("config", "filter.evil.smudge", f"touch {ran}")
    repository.git("config", "filter.evil.process", f"touch {ran}")
    for hook in ("post-checkout", "post-index-change"):
        path = repository.path / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {ran}\n")
        path.chmod(0o755)
    opened = open_repository(repository.path, tmp_path)
    umask = os.umask(0o077)
    try:
        with tree_of([opened], commit) as tree:
            assert tree is not None
            assert sorted(path.name for path in tree.folder.iterdir()) == sorted(
                [".gitattributes", "a", "inside", "left.txt", "secret", "tool.sh"]
            )
            assert (tree.folder / "tool.sh").stat().st_mode & 0o777 == 0o755
            assert (tree.folder / "a").stat().st_mode & 0o777 == 0o755
            assert (tree.folder / "secret").is_symlink()
            assert tree.place("left.txt", "left\n") is not None
            assert tree.place("secret", "/etc/hostname\n") is None
            assert tree.place("inside", "#!/bin/sh\n") is None
    finally:
        os.umask(umask)
    assert not ran.exists()
    assert not tree.folder.exists()
    with tree_of([opened], "f" * 40) as nothing:
        assert nothing is None


@pytest.mark.parametrize(
    ("samples", "passed", "k"), [(5, 2, 1), (5, 2, 2), (5, 2, 4), (5, 0, 5), (1, 1, 1), (20, 3, 7)]
)
def test_pass_at_k_is_the_share_of_draws_with_one_that_passes(samples: int, passed: int, k: int) -> None:
    assert pass_at(samples, passed, k) == pytest.approx(1 - math.comb(samples - passed, k) / math.comb(samples, k))


def test_pass_rates_are_means_and_their_difference_is_resampled_by_commit() -> None:
    questions = [question(f"c{at // 2}", "x\n") for at in range(4)]
    passed = {"base": [[False] * 4] * 3 + [[True, False, False, False]], "tuned": [[True, True, False, False]] * 4}
    found = compare_pass_rates(questions, passed)
    assert found["base"]["pass_at"] == {"1": pytest.approx(1 / 16), "4": pytest.approx(1 / 4)}
    assert found["tuned"]["pass_at"] == {"1": pytest.approx(1 / 2), "4": pytest.approx(1.0)}
    assert found["delta"] == pytest.approx(0.5 - 1 / 16)
    assert found["ci95"] == [pytest.approx(0.375), pytest.approx(0.5)], "one commit or the other, twice"
    assert found["verdict"] == "no detectable change", "two commits prove nothing"
    assert found["per_item"][3] == {
        "id": "q",
        "commit": "c1",
        "path": "shop/prices.py",
        "base_passed": 1,
        "tuned_passed": 2,
    }
    same = compare_pass_rates(questions, {"base": [[True]] * 4, "tuned": [[True]] * 4})
    assert (same["delta"], same["verdict"]) == (0.0, "no detectable change")
    many = [question(f"c{at}", "x\n") for at in range(8)]
    none, some = [[False, False]] * 8, [[True, False]] * 8
    assert compare_pass_rates(many, {"base": none, "tuned": some})["verdict"] == "better"
    assert compare_pass_rates(many, {"base": some, "tuned": none})["verdict"] == "worse"


def exam_setup(model: Path, repo: Path, workplace: Path, **keys: Any) -> ExamSetup:
    given = {
        "model_name_or_path": str(model), "repo": [str(repo)], "corpus_dir": str(workplace / "corpora"), "test_commits": 6,
        "output_dir": str(workplace / "run"), "views": {"edit": 1}, "check_binds": [str(bind) for bind in BINDS] or None,
        "check_items": 2, "check_command": CHECK, **keys,
    }  # fmt: skip
    path = workplace / "recipe.yaml"
    path.write_text(yaml.safe_dump(given))
    recipe = parse_recipe([str(path)])
    source = ModelSource.from_keys(recipe.model, {"bf16": False})
    tokenizer = source.tokenizer()
    repositories = [open_repository(repo, workplace)]
    special = special_tokens(tokenizer)
    prompts = ModelPrompts(prompts_for(special, "auto"), special)
    corpus = build_corpus(recipe, repositories, mine(repositories, recipe.mining), prompts)
    return ExamSetup(recipe, repositories, corpus, tokenizer, source, 300, 1024)


@installed
def test_both_models_write_and_both_are_checked(
    tiny_models: dict[str, Path], shop_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model writes nothing that passes; interrupted, it writes and tries nothing twice."""
    there = exam_setup(tiny_models["llama"], shop_path, tmp_path, check_samples=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_models["llama"])
    opened = there.loaded(model).opened
    found = check_edits(there, opened, opened)["check"]
    assert (found["items"], found["commits"], found["samples"]) == (2, 2, 2)
    assert found["left_out"] == {}
    assert found["unchanged"] == {"pass_rate": 0.0}
    assert found["base"] == found["tuned"] == {"pass_at": {"1": 0.0, "2": 0.0}}
    assert [item["base_passed"] for item in found["per_item"]] == [0, 0]
    rows = (tmp_path / "run" / "exam-checks.jsonl").read_text()
    monkeypatch.setattr("blocklm.evaluation.execution.runner.run", lambda *given: pytest.fail("it was tried"))
    must_not_write = partial(pytest.fail, "it has written")
    assert check_edits(there, must_not_write, must_not_write)["check"] == found
    assert (tmp_path / "run" / "exam-checks.jsonl").read_text().split() == rows.split()


@installed
def test_a_check_that_no_commit_passes_has_no_result(
    tiny_models: dict[str, Path], shop_path: Path, tmp_path: Path
) -> None:
    there = exam_setup(tiny_models["llama"], shop_path, tmp_path, check_command="no-such-tool --check")
    must_not_write = partial(pytest.fail, "it need not write")
    found = check_edits(there, must_not_write, must_not_write)["check"]
    assert (found["items"], found["left_out"]) == (0, {"failed": 2})
    assert "no-such-tool: not found" in found["left_out_said"]
    assert "no result, because no edit is left" in exam_text(EXAM | {"check": found})
    assert (
        check_edits(
            exam_setup(tiny_models["llama"], shop_path, tmp_path, check_command=None), must_not_write, must_not_write
        )
        == {}
    )


EXAM: dict[str, Any] = {
    "commits": 70, "items": 20, "added_bytes": 900, "base": {"bits_per_byte": 1.0}, "tuned": {"bits_per_byte": 0.9},
    "delta_percent": -10.0, "ci95": [-25.0, -5.0], "verdict": "better", "commits_needed": None, "arms": {}, "forgetting": None,
    "tasks": {}, "slices": {},
}  # fmt: skip


def test_the_table_shows_pass_rates() -> None:
    check = {
        "command": "pytest -q", "items": 20, "commits": 14, "samples": 5, "left_out": {"failed": 3, "no place": 1},
        "unchanged": {"pass_rate": 0.25}, "base": {"pass_at": {"1": 0.3, "5": 0.5}}, "tuned": {"pass_at": {"1": 0.45, "5": 0.7}},
        "delta": 0.15, "ci95": [0.02, 0.28], "verdict": "better",
    }  # fmt: skip
    table = exam_text(EXAM | {"check": check})
    assert "`pytest -q` on 20 edits of 14 commits: base passes 30 %, tuned 45 %, the lines as they were 25 %" in table
    assert "+15 points, 95 % interval [+2, +28]: better" in table
    assert "one of 5 samples passes: base 50 %, tuned 70 %" in table
    assert "3 failed, 1 no place" in table


def test_invalid_check_keys_are_refused() -> None:
    check_checks(CheckArguments(), ["completion"])
    check_checks(CheckArguments(check_command="true"), ["edit"])
    for keys, views in (
        (CheckArguments(check_items=0), ["edit"]),
        (CheckArguments(check_timeout=float("inf")), ["edit"]),
        (CheckArguments(check_command=" "), ["edit"]),
        (CheckArguments(check_command="true"), ["completion"]),
    ):
        with pytest.raises(UserError, match="`check_"):
            check_checks(keys, views)


def test_a_run_that_could_not_check_does_not_begin(
    project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, tmp_path: Path
) -> None:
    """On a machine with git and without bubblewrap; the refusal comes before anything is mined."""
    (tmp_path / "git").symlink_to(str(shutil.which("git")))
    given = ("--repo", project, "--model_name_or_path", tiny_models["llama"], "--check_command", "true")
    done = run_script("train.py", tiny_recipe, *given, cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: `check_command` needs bubblewrap (`bwrap`), which is not installed"
    assert "apt install bubblewrap" in done.stderr
    assert not (tmp_path / "corpora").exists()
