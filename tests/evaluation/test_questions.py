"""One corpus gives the same questions, each in the form of training, with the text around its answer."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.config.generation import BehaviourArguments
from blocklm.corpus import views
from blocklm.corpus.prompt_templates import FAMILY
from blocklm.corpus.views import HunkText
from blocklm.errors import UserError
from blocklm.evaluation.questions import TASKS, GenerationTask, generation_tasks, prompt_tasks
from blocklm.mining.hunks import hunks_of
from blocklm.models.tokenization import IGNORED, encode

DIFF = "@@ -1,4 +1,5 @@\n import os\n-x = 1\n+first = %d\n print(x)\n+y = compute(x, %d)\n z(y)\n"


@pytest.fixture
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_models["starcoder2"])


def samples(family: str = "plain", commits: int = 12) -> Dataset:
    """Samples of several views, from commits of three hunks each."""
    rows: list[dict[str, Any]] = []
    for commit in range(commits):
        for number in range(3):
            (hunk,) = hunks_of(DIFF % (commit, number))
            text = HunkText("demo", f"{commit:040d}", "src/a.py", f"Raise x to {commit}", number, hunk.lines)
            made = [sample for render in views.OF_HUNK.values() for sample in render(FAMILY[family], text)]
            made += views.message(FAMILY[family], [text]) if number == 0 else []
            for sample in made:
                parts = {key: getattr(sample, key) for key in ("id", "view", "prompt", "completion")}
                spans = {"context": list(sample.context), "added": list(sample.added)}
                rows.append(parts | spans | {"commit": text.commit, "path": text.path, "language": "Python"})
    return Dataset.from_list(rows)


def asked(tokenizer: PreTrainedTokenizerBase, rows: Dataset, **keys: Any) -> list[GenerationTask]:
    length, behaviour = keys.pop("max_length", 512), BehaviourArguments(**keys)
    longest = behaviour.behavioral_max_new_tokens
    families = dict.fromkeys(TASKS, "plain")
    return prompt_tasks(behaviour.behavioral_prompts or [], tokenizer, longest, length) + generation_tasks(
        rows, families, tokenizer, count=behaviour.behavioral_items, max_answer_tokens=longest, max_length=length
    )


def test_tasks_have_similar_numbers_of_items_from_many_commits(tokenizer: PreTrainedTokenizerBase) -> None:
    found = asked(tokenizer, samples(), behavioral_items=10)
    assert [sum(one.task == task for one in found) for task in TASKS] == [3, 3, 2, 2]
    for task in TASKS:
        commits = [one.commit for one in found if one.task == task]
        assert len(set(commits)) == len(commits)
    assert found == asked(tokenizer, samples(), behavioral_items=10)
    assert asked(tokenizer, samples(), behavioral_items=0) == []


def test_a_question_is_the_beginning_of_a_training_sample(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = samples()
    of_id = {row["id"]: row for row in rows}
    for one in asked(tokenizer, rows):
        (encoded,) = encode({key: [value] for key, value in of_id[one.id].items()}, tokenizer, 512)
        assert encoded is not None
        assert list(one.tokens) == encoded.input_ids[: encoded.labels.count(IGNORED)]
        assert one.truth == of_id[one.id]["completion"]


@pytest.mark.parametrize("family", sorted(FAMILY))
def test_the_text_around_an_answer_is_recovered_from_the_prompt(
    family: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = samples(family, commits=1)
    families = dict.fromkeys(TASKS, family)
    found = generation_tasks(rows, families, tokenizer, count=40, max_answer_tokens=64, max_length=512)
    windows = {(one.before, one.prefix, one.suffix) for one in found if one.task == "fim"}
    after = "import os\nfirst = 0\nprint(x)\n"
    assert ("", after, "z(y)\n") in windows
    assert ("", "import os\n", "print(x)\ny = compute(x, 1)\nz(y)\n") in windows
    (edit, *_) = (one for one in found if one.task == "edit")
    assert (edit.before, edit.prefix, edit.suffix) == ("import os\nx = 1\nprint(x)\nz(y)\n", "", "")
    assert edit.lines == 5


def test_only_questions_with_fitting_answers_are_used(tokenizer: PreTrainedTokenizerBase) -> None:
    keys = {"behavioral_items": 40, "behavioral_max_new_tokens": 30}
    found = asked(tokenizer, samples(), **keys)
    lengths = [len(tokenizer(str(one.truth)).input_ids) + 1 for one in found]
    assert lengths and max(lengths) <= 30
    assert "edit" not in {one.task for one in found}
    assert asked(tokenizer, samples(), **keys, max_length=31) == []


def test_prompts_of_the_recipe_are_used_unchanged(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = ["pub fn verify(", "async fn main() {\n"]
    found = asked(tokenizer, samples(), behavioral_items=0, behavioral_prompts=prompts)
    assert [(one.id, one.task, one.prompt, one.truth, one.lines) for one in found] == [
        (f"prompt-{number}", "prompt", text, None, None) for number, text in enumerate(prompts, 1)
    ]
    with pytest.raises(
        UserError, match=r"text 2 of `behavioral_prompts` has \d+ tokens, and `max_length` leaves space"
    ):
        asked(tokenizer, samples(), behavioral_prompts=["x", "y = 1\n" * 200])
