"""Answers to tasks are scored, compared by commit, stored, and generated once."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import ModelConfig

from blocklm.corpus.prompt_templates import Prompt
from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.compare import Arm
from blocklm.evaluation.tasks.item import TaskItem
from blocklm.evaluation.tasks.problems import Problem, problem_of
from blocklm.evaluation.tasks.run import run_tasks
from blocklm.models.likelihood import continuation_nll
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import load_tokenizer
from tests.support.memory import memory_left

PATHS = tuple(f"src/{'step_' * (1 + at % 3)}{at}.py\n" for at in range(40))


@pytest.fixture
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return load_tokenizer(ModelConfig(model_name_or_path=str(tiny_models["llama"])))


@pytest.fixture
def model(tiny_models: dict[str, Path]) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_models["llama"]).eval()


def problem(tokenizer: PreTrainedTokenizerBase, task: str, commit: str, truth: str, **more: Any) -> Problem:
    prompt = f"# {task} of {commit}\n"
    item = TaskItem(f"{task}-{commit}", task, commit, "a.py", "Python", Prompt(prompt, (0, 0)), truth, **more)
    asked = problem_of(item, tokenizer, 512)
    assert asked is not None
    return asked


@pytest.fixture
def problems(tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
    found = []
    for at in range(8):
        found.append(problem(tokenizer, "body", f"c{at}", f"    return {at}\n"))
        found.append(problem(tokenizer, "dead_api", f"c{at}", "", removed=frozenset({"old_step"})))
        found.append(
            problem(tokenizer, "which_file", f"c{at}", PATHS[at], candidates=PATHS, wanted=PATHS[at : at + 1])
        )
    return found


def test_an_answer_at_a_cursor_may_begin_within_a_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Its prompt is the text up to the cursor, as an editor sends it."""
    text = "import o"
    for end, heals in ((len(text), True), (len(text) - 2, False)):
        asked = problem_of(TaskItem("1", "body", "c", "a.py", "Python", Prompt(text, (0, end)), "s\n"), tokenizer, 512)
        assert asked is not None
        assert (asked.question.tokens, asked.question.heals) == (tuple(tokenizer(text).input_ids), heals)


def test_candidates_score_the_same_in_smaller_batches(tokenizer: Any) -> None:
    """With forty candidates the prompt's cache takes some 160 MiB, with one 4 MiB."""
    config = AutoConfig.for_model(
        "llama", hidden_size=512, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=410,
        max_position_embeddings=2048, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    loaded = LoadedModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer, torch.float32)
    prompt, endings = [5] * 1024, tokenizer(list(PATHS)).input_ids
    expected = continuation_nll(loaded, prompt, endings)
    with memory_left(90 << 20):
        assert continuation_nll(loaded, prompt, endings) == pytest.approx(expected, rel=1e-4)


def test_each_task_is_compared_by_its_own_score(problems: list[Problem], tokenizer: Any, tmp_path: Path) -> None:
    """The base answers wrongly and calls dead symbols, the tuned model answers right; fewer dead calls are better."""
    known = {"body": ["x", False], "dead_api": ["old_step()", True], "which_file": [float(at) for at in range(40)]}
    with Answers(tmp_path / "answers.jsonl") as answers:
        for one in problems:
            asked, at = one.question, int(one.question.commit[1:])  # type: ignore[index]
            knows = {"body": [asked.truth, True], "dead_api": ["", True]}
            knows["which_file"] = [float(number != at) for number in range(40)]
            for weights, answer in (("b", known[asked.task]), ("t", knows[asked.task])):
                answers.add(key_of(weights, asked.tokens, asked.lines, one.endings, asked.heals), answer)
        arms = [Arm("base", "b", lambda: pytest.fail("asked")), Arm("tuned", "t", lambda: pytest.fail("asked"))]
        tasks, rows = run_tasks(problems, arms, answers)
    assert {name: task["score"] for name, task in tasks.items()} == {
        "which_file": "mrr", "body": "edit_similarity", "dead_api": "dead_api",
    }  # fmt: skip
    assert all(task["change"]["verdict"] == "better" and task["change"]["p_holm"] < 0.05 for task in tasks.values())
    assert (tasks["dead_api"]["base"], tasks["dead_api"]["tuned"]) == ({"dead_api": 1.0}, {"dead_api": 0.0})
    assert tasks["dead_api"]["change"]["delta"] == -1
    assert tasks["which_file"]["tuned"] == {"mrr": 1.0, "hit_at_5": 1.0}
    assert tasks["which_file"]["base"]["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 9)) / 8)
    assert tasks["body"]["tuned"]["edit_similarity"] == tasks["body"]["tuned"]["exact_match"] == 1
    assert tasks["body"]["items"] == tasks["body"]["commits"] == 8
    chosen = next(row for row in rows if row["id"] == "which_file-c3")
    assert chosen["tuned"].splitlines(keepends=True)[0] == chosen["truth"] == PATHS[3]
    assert (chosen["base_score"], chosen["tuned_score"]) == (0.25, 1.0)


def test_stored_answers_are_not_generated_again(
    problems: list[Problem], model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    loaded = LoadedModel(model, tokenizer, torch.float32)
    arms = [Arm("base", "b", lambda: nullcontext(loaded)), Arm("tuned", "t", lambda: nullcontext(loaded))]
    with Answers(tmp_path / "answers.jsonl") as answers:
        found = run_tasks(problems[:6], arms, answers)
    assert all(task["change"]["delta"] == 0 for task in found[0].values()), "both are the same model"
    assert all(task["change"]["verdict"] == "no detectable change" for task in found[0].values())
    lines = (tmp_path / "answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "answers.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    opened: list[str] = []

    def again(name: str) -> Arm:
        def opens() -> Any:
            opened.append(name)
            return nullcontext(loaded)

        return Arm(name, name[0], opens)

    with Answers(tmp_path / "answers.jsonl") as answers:
        assert run_tasks(problems[:6], [again("base"), again("tuned")], answers) == found
    assert opened == ["tuned"], "one answer of it was torn"
