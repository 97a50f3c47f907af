"""Reviews as a user runs them: what the model reads, what is stored, and each refusal in one clear line."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.streaming import Terminal
from blocklm.formatting import printable
from blocklm.models.generation.decoding import Output
from tests.conftest import GitRepository, function
from tests.support.scripts import run_in_process

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WITHOUT_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no such role') }}{% endif %}" + TEMPLATE
KEY = "ghp_" + "k9Wz3TqLr7Yp1VxBn5Md8Hc2Js6Fg4Ae0UiO"
FIRST = "What does this change do, and what could go wrong with it?"


@dataclass(frozen=True)
class Result:
    """Result of a command: exit code, stdout, stderr, and the prompts that the model read."""

    code: int
    out: str
    err: str
    prompts: list[str]


Review = Callable[..., Result]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    """Steps, each fixed by the next commit, and one reverted step. What a test stages is unstaged afterwards."""
    repository = GitRepository(tmp_path_factory.mktemp("shop") / "shop")
    module = ""
    for number in range(24):
        module += function(number)
        repository.commit(f"Add step {number} of the way", {"src/steps.py": module})
        if number == 5:
            sha = repository.commit("Light a lamp for the guests", {"src/lamp.py": "LAMP = 'lantern of the guests'\n"})
            message = f'Revert "Light a lamp for the guests"\n\nThis reverts commit {sha}.\nIt blinded the guests.'
            repository.commit(message, {"src/lamp.py": None})
        module = module.replace(f"return value * {number} + {number % 3}", f"return value * {number} - {number % 5}")
        repository.commit(f"Fix the wrong sign of step {number}", {"src/steps.py": module})
    repository.commit("Light another lamp for the guests", {"src/lamp.py": "LAMP = 'lamp of the guests'\n"})
    return repository


def templated(model: Path, folder: Path, template: str) -> Path:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory, shop: GitRepository, tiny_models: dict[str, Path]) -> Path:
    """A run on a model with a chat template, trained for two steps, mostly in the view `review`."""
    place = tmp_path_factory.mktemp("chatty")
    model = templated(tiny_models["llama"], place / "model", TEMPLATE)
    keys = {
        "model_name_or_path": model, "use_peft": "true", "lora_r": "4", "bf16": "false", "views": "{review: 9, edit: 1}",
        "max_length": "512", "max_steps": "2", "per_device_train_batch_size": "2", "eval_strategy": "'no'",
        "save_strategy": "'no'", "behavioral_items": "0", "exam": "false", "hardware_interval": "0", "seed": "7",
        "embedding_model": "none",
    }  # fmt: skip
    recipe = place / "recipe.yaml"
    recipe.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    done = run_in_process("train.py", recipe, "--repo", shop.path, "--output_dir", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "run"


def with_keys(run: Path, copy: Path, **keys: str) -> Path:
    """The run, with other keys in its recipe."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("reviews"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | keys
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return copy


@pytest.fixture(scope="module")
def plain(chatty: Path, tiny_models: dict[str, Path]) -> Path:
    """A run on a model without a chat template."""
    return with_keys(chatty, chatty.parent / "plain", model_name_or_path=str(tiny_models["llama"]))


@pytest.fixture
def review(chatty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Review]:
    """Run `scripts/review.py` in this process; stored conversations are deleted after each test."""
    monkeypatch.chdir(chatty.parent)
    prompts: list[str] = []
    stream = Assistant.stream_continuation

    def noted(self: Assistant, tokens: Sequence[int], *arguments: Any, **named: Any) -> Output:
        prompts.append(self.run.tokenizer.decode(tokens))
        return stream(self, tokens, *arguments, **named)

    monkeypatch.setattr(Assistant, "stream_continuation", noted)

    def reviewed(*arguments: str | Path, stdin: str = "", run: Path = chatty) -> Result:
        given = [run, *arguments, "--max_new_tokens", "12", "--max_prompt_tokens", "1000"]
        prompts.clear()
        done = run_in_process("review.py", *given, cwd=Path.cwd(), stdin=stdin.encode())
        return Result(done.returncode, done.stdout, done.stderr, list(prompts))

    yield reviewed
    for run in chatty.parent.iterdir():
        shutil.rmtree(run / "reviews", ignore_errors=True)


@pytest.fixture
def stage(shop: GitRepository) -> Iterator[Callable[[str, str], None]]:
    def staging(name: str, text: str) -> None:
        (shop.path / name).write_text(text)
        shop.git("add", "--all")

    yield staging
    shop.git("reset", "--quiet", "--hard")


def session(run: Path) -> list[dict[str, Any]]:
    (file,) = (run / "reviews").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_both_turns_read_the_change_in_the_chat_template(review: Review, chatty: Path, shop: GitRepository) -> None:
    result = review("HEAD~1", "--retrieve", "0", stdin="Why so?\n\nAnd then?\n")
    assert result.code == 0, result.err
    name = shop.git("rev-parse", "HEAD~1").strip()[:12]
    assert f"shop {name}  Fix the wrong sign of step 23\n  src/steps.py  +1 -1\n" in result.err
    first, second, third = result.prompts
    for prompt in result.prompts:
        assert prompt.startswith("<|system|>You review a change to the code of shop.")
        assert "Commit: Fix the wrong sign of step 23\nsrc/steps.py\n```diff\n" in prompt
        assert "\n-    return value * 23 + 2\n+    return value * 23 - 3\n" in prompt
    head, turns = session(chatty)[0], session(chatty)[2:]
    assert first.endswith(f"```\n\n{FIRST}<|endoftext|>\n<|assistant|>")
    answers = [turn["answer"] for turn in turns]
    assert second.endswith(
        f"{FIRST}<|endoftext|>\n<|assistant|>{answers[0].strip()}<|endoftext|>\n<|user|>Why so?<|endoftext|>\n<|assistant|>"
    )
    assert third.endswith(
        f"<|assistant|>{answers[1].strip()}<|endoftext|>\n<|user|>And then?<|endoftext|>\n<|assistant|>"
    )
    assert [turn["question"] for turn in turns] == [FIRST, "Why so?", "And then?"]
    assert head["change"] == f"shop {name}" and head["model"].startswith("tuned ")


def test_without_a_chat_template_there_are_headings_and_the_review_prompt_of_training(
    review: Review, plain: Path
) -> None:
    result = review("HEAD~1", "--retrieve", "0", stdin="Why so?\n", run=plain)
    assert result.code == 0, result.err
    first, second = (prompt.removeprefix("<|endoftext|>") for prompt in result.prompts)
    assert first.startswith("### shop/src/steps.py\n") and first.endswith("### review\n")
    assert "\n-    return value * 23 + 2\n+    return value * 23 - 3\n" in first
    assert second.startswith("You review a change to the code of shop.")
    assert "+    return value * 23 - 3\n" in second
    answer = session(plain)[2]["answer"].strip()
    assert second.endswith(f"### Question\n{FIRST}\n### Comment\n{answer}\n### Question\nWhy so?\n### Comment\n")
    assert "about the hunk that adds most: src/steps.py" in result.err

    (based,) = review("HEAD~1", "--base", "--retrieve", "0", run=plain).prompts  # which was not trained on reviews
    assert based.endswith(f"### Question\n{FIRST}\n### Comment\n")
    (same,) = review("HEAD~1", "--plain", "--retrieve", "0").prompts  # although it has a template
    assert same.removeprefix("<|endoftext|>") == first


def test_without_a_system_role_the_instructions_are_in_the_first_question(
    review: Review, chatty: Path, tiny_models: dict[str, Path]
) -> None:
    model = templated(tiny_models["llama"], chatty.parent / "no-system-model", WITHOUT_SYSTEM)
    run = with_keys(chatty, chatty.parent / "no-system", model_name_or_path=str(model))
    (prompt,) = review("--ask", "Why so?", "--retrieve", "0", run=run).prompts
    assert prompt.startswith("<|user|>You review a change to the code of shop.")
    assert "+LAMP = 'lamp of the guests'" in prompt and prompt.endswith("Why so?<|endoftext|>\n<|assistant|>")


def test_similar_past_changes_are_shown_with_their_later_reverts(
    review: Review, chatty: Path, shop: GitRepository
) -> None:
    result = review("--ask", "Why so?")
    assert result.code == 0, result.err
    names = [sha[:12] for sha in shop.git("log", "--format=%H", "--grep", "Light a lamp").split()]
    assert f" 2023-11-14  {names[1]}  src/lamp.py  Light a lamp for the guests\n" in result.err
    assert f'          reverted 2023-11-14  {names[0]}  Revert "Light a lamp for the guests"\n' in result.err
    (prompt,) = result.prompts
    assert "\nEarlier changes near it:\n\n2023-11-14: Light a lamp for the guests (src/lamp.py)\n```diff\n" in prompt
    assert '\nLater reverted on 2023-11-14: Revert "Light a lamp for the guests"\n' in prompt
    kept = session(chatty)
    assert [then["kind"] for then in kept[1]["past"][0]["followups"]] == ["reverted"]
    again = review("--ask", "And then?")
    assert "Later reverted on 2023-11-14" in again.prompts[0] and names[1] in again.err
    assert session(chatty)[:3] == kept


def test_a_review_of_an_old_commit_uses_only_earlier_commits(review: Review, shop: GitRepository) -> None:
    """Each step is fixed by the commit after it."""
    tenth = shop.git("log", "--format=%H", "--grep", "Add step 10 ").strip()
    result = review(tenth, "--retrieve", "30", "--ask", "Why so?")
    assert result.err.count("Fix the wrong sign of step 9\n") == 2  # a past change, and what followed another
    assert "step 11" not in result.err and "sign of step 10" not in result.err
    assert "not all past changes fit into the prompt: " in result.err


def test_a_review_without_an_embedding_model_has_no_past_changes(review: Review, chatty: Path) -> None:
    run = with_keys(chatty, chatty.parent / "no-index", embedding_model="/nowhere")
    result = review("--ask", "Why so?", run=run)
    assert result.code == 0, result.err
    assert "without past changes: `embedding_model` /nowhere cannot be loaded" in result.err
    assert "Earlier changes" not in result.prompts[0]


def test_a_single_question_ends_after_its_answer(review: Review, chatty: Path) -> None:
    result = review("HEAD~1", "--ask", "Why so?", "--retrieve", "0", stdin="not read\n")
    assert len(result.prompts) == 1
    (turn,) = session(chatty)[2:]
    assert turn["question"] == "Why so?"
    assert result.out.rstrip("\n") == printable(turn["answer"]).rstrip("\n")


def test_the_same_command_continues_the_conversation(review: Review, chatty: Path) -> None:
    review("HEAD~1", "--ask", "One?", "--retrieve", "0")
    result = review("HEAD~1", stdin="Two?\n")
    (prompt,) = result.prompts
    assert prompt.index("One?") < prompt.index("Two?")
    assert "continuing " in result.err and "> One?\n" in result.err
    assert [turn["question"] for turn in session(chatty)[2:]] == ["One?", "Two?"]
    assert review("HEAD~1").prompts == []
    result = review("HEAD~1", "--new", "--ask", "Three?", "--retrieve", "0")
    assert "One?" not in result.prompts[0] + result.err
    assert [turn["question"] for turn in session(chatty)[2:]] == ["Three?"]
    review("HEAD~1", "--base", "--ask", "Four?", "--retrieve", "0")
    assert len(list((chatty / "reviews").iterdir())) == 2


def test_a_conversation_about_another_change_or_model_is_refused(
    review: Review, chatty: Path, stage: Callable[[str, str], None]
) -> None:
    stage("src/lamp.py", "LAMP = 'one lamp'\n")
    assert review("--staged", "--ask", "One?", "--retrieve", "0").code == 0
    kept = session(chatty)
    stage("src/lamp.py", "LAMP = 'two lamps'\n")
    result = review("--staged", "--ask", "Two?")
    assert (result.code, result.prompts, result.out) == (2, [], "")
    assert re.search(
        r"error: `.*shop-staged.jsonl` is a conversation about another diff: .*\nhint: give `--new` ", result.err
    )
    assert session(chatty) == kept
    (file,) = (chatty / "reviews").iterdir()
    file.write_text(file.read_text().replace(kept[0]["model"], "tuned 000000000000"))
    stage("src/lamp.py", "LAMP = 'one lamp'\n")
    assert "another model: tuned 000000000000, now tuned" in review("--staged", "--ask", "Two?").err
    file.write_text("{}\n")
    assert "is not a conversation of this version" in review("--staged", "--ask", "Two?").err
    assert review("--staged", "--new", "--ask", "Two?", "--retrieve", "0").code == 0


def test_no_secret_is_in_the_prompt_or_the_transcript(
    review: Review, chatty: Path, stage: Callable[[str, str], None]
) -> None:
    stage("src/lamp.py", f'LAMP = "{KEY}"\n')
    result = review("--staged", "--retrieve", "0", stdin=f'Is token = "{KEY}" safe?\n')
    assert result.code == 0, result.err
    assert all('+LAMP = "<KEY>"' in prompt and KEY not in prompt for prompt in result.prompts)
    assert 'Is token = "<KEY>" safe?' in result.prompts[1]
    (file,) = (chatty / "reviews").iterdir()
    assert KEY not in file.read_text() + result.err


def test_a_piece_with_a_special_token_is_not_put_into_a_prompt(
    review: Review, stage: Callable[[str, str], None]
) -> None:
    stage("src/lamp.py", "LAMP = '<|endoftext|>'\n")
    result = review("--staged")
    assert (result.code, "each hunk of the change holds a special token" in result.err) == (2, True)
    stage("src/more.py", "MORE = 'lamps of the house'\n")
    result = review("--staged", "--retrieve", "0", stdin="What of <|endoftext|>?\n")
    assert "not shown: 1 hunks that hold a special token" in result.err
    assert "more.py" in result.prompts[0] and "LAMP" not in result.prompts[0]
    assert (result.code, "the question holds `<|endoftext|>`" in result.err) == (2, True)


def test_text_that_does_not_fit_is_left_out_with_a_message(
    review: Review, chatty: Path, stage: Callable[[str, str], None]
) -> None:
    """The prompt may have a thousand tokens, six tenths of them for the diff."""
    stage("src/long.py", "".join(f"line_{number} = {number}\n" for number in range(400)))
    stage("src/short.py", "short = 'a short line'\n")
    questions = [f"{number}? " + "why " * 60 for number in range(6)]
    result = review("--staged", "--retrieve", "0", stdin="\n".join(questions))
    assert result.code == 0, result.err
    assert "do not fit into the prompt, or only in part: src/long.py" in result.err
    assert "not all earlier turns fit into the prompt: 1 left out" in result.err
    last = result.prompts[-1]
    assert "+short = 'a short line'" in last and "line_7" not in last
    assert "5? why" in last and "4? why" in last and "0? why" not in last
    assert len(session(chatty)) == 2 + 7

    stage("src/short.py", "short = 'a short line'\n" * 400)
    (prompt,) = review("--staged", "--new", "--retrieve", "0").prompts
    assert "+short = 'a short line'\n" in prompt or "+line_0 = 0\n+line_1" in prompt
    result = review("--staged", "--ask", "why " * 2000)
    assert (result.code, "and a prompt may have 1000" in result.err) == (2, True)


def test_ctrl_c_during_an_answer_loses_no_earlier_turn(
    review: Review, chatty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives while the second answer is being printed."""
    shown = Terminal.on_finalized_text

    def interrupted(self: Terminal, text: str, stream_end: bool = False) -> None:
        shown(self, text, stream_end)
        if (chatty / "reviews").is_dir():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Terminal, "on_finalized_text", interrupted)
    result = review("HEAD~2", "--retrieve", "0", stdin="Why so?\nAnd then?\n")
    assert (result.code, len(result.prompts)) == (130, 2)
    assert "interrupted: the same command again takes up where this left off" in result.err
    assert [turn["question"] for turn in session(chatty)[2:]] == [FIRST]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["HEAD", "--staged"], "`HEAD` and `--staged` are two changes"),
        (["nowhere"], "`nowhere` names no commit in"),
        (["--staged"], "no change of text is staged in"),
        (["--retrieve", "-1"], "`--retrieve` must be at least 0"),
        (["--repo", "gone"], "`repo` gone does not exist"),
        (["--temperature", "-1"], "at a temperature of at least 0"),
    ],
)
def test_a_change_that_cannot_be_reviewed_is_refused_in_two_lines(
    review: Review, arguments: list[str], error: str
) -> None:
    result = review(*arguments)
    assert (result.code, result.out, result.prompts) == (2, "", [])
    refusal = re.search(r"^error: (.*)\nhint: .+\n", result.err, re.MULTILINE)
    assert refusal and error in refusal[1], result.err
