"""One corpus gives the same questions, each in the form of training, with the text around its answer."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.config.generation import BehaviourArguments
from blocklm.corpus import views
from blocklm.corpus.places.place import Place
from blocklm.corpus.prompt_templates import FAMILY, Family
from blocklm.corpus.views import HunkText, Sample, sample_id
from blocklm.errors import UserError
from blocklm.evaluation.questions import TASKS, GenerationTask, generation_tasks, prompt_tasks
from blocklm.mining.hunks import hunks_of
from blocklm.models.tokenization.encode import encode
from blocklm.models.tokenization.sample_encoder import SampleEncoder

DIFF = "@@ -1,4 +1,5 @@\n import os\n-x = 1\n+first = %d\n print(x)\n+y = compute(x, %d)\n z(y)\n"
WINDOW = "import os\nx = 1\nprint(x)\nz(y)\n"


@pytest.fixture
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_models["starcoder2"])


def at_places(family: Family, text: HunkText, above: str) -> list[Sample]:
    """Samples at two places of a hunk as they are once the file was read, `above` of which is above the hunk."""
    before = f"{above}import os\n"
    after = "\nprint(x)\ny = compute(x, 0)\nz(y)\n"
    first = text.lines[2][1:]
    made = []
    for view, place, completion in (
        ("completion", Place("demo", text.path, before, after), first),
        ("next_edit", Place("demo", text.path, WINDOW), WINDOW.replace("x = 1", first)),
    ):
        prompt = family.prompt_at(view, place)
        name, added = sample_id(text, view, 0), (0, len(completion))
        made.append(Sample(name, view, prompt.text, prompt.context, completion, added, prompt.suffix, prompt.pieces))
    return made


def samples(family: str = "plain", commits: int = 12, above: str = "") -> Dataset:
    """Samples of several views, from commits of three hunks each."""
    rows: list[dict[str, Any]] = []
    for commit in range(commits):
        for number in range(3):
            (hunk,) = hunks_of(DIFF % (commit, number))
            text = HunkText("demo", f"{commit:040d}", "src/a.py", f"Raise x to {commit}", number, hunk.lines)
            made = [sample for render in views.OF_HUNK.values() for sample in render(FAMILY[family], text)]
            made += views.message(FAMILY[family], [text]) if number == 0 else []
            made += at_places(FAMILY[family], text, above)
            for sample in made:
                parts = {key: getattr(sample, key) for key in ("id", "view", "prompt", "completion")}
                spans = {key: list(getattr(sample, key)) for key in ("context", "added", "suffix", "pieces")}
                facts = {"commit": text.commit, "path": text.path, "language": "Python", "before": WINDOW}
                rows.append(parts | spans | facts)
    return Dataset.from_list(rows)


def asked(tokenizer: PreTrainedTokenizerBase, rows: Dataset, **keys: Any) -> list[GenerationTask]:
    length, behaviour = keys.pop("max_length", 512), BehaviourArguments(**keys)
    longest = behaviour.behavioral_max_new_tokens
    return prompt_tasks(behaviour.behavioral_prompts or [], tokenizer, longest, length) + generation_tasks(
        rows,
        TASKS,
        SampleEncoder(tokenizer, Path()),
        count=behaviour.behavioral_items,
        max_answer_tokens=longest,
        max_length=length,
    )


def test_tasks_have_similar_numbers_of_items_from_many_commits(tokenizer: PreTrainedTokenizerBase) -> None:
    found = asked(tokenizer, samples(), behavioral_items=10)
    assert {task: sum(one.task == task for one in found) for task in TASKS} == {
        "completion": 3, "next_edit": 3, "quiet": 0, "edit": 2, "message": 2,
    }  # fmt: skip
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
        assert list(one.tokens) == encoded.prompt_ids
        assert one.truth == of_id[one.id]["completion"]


@pytest.mark.parametrize("family", sorted(FAMILY))
def test_a_question_knows_the_text_around_its_answer_or_before_it(
    family: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = asked(tokenizer, samples(family, commits=1), behavioral_items=40)
    of_task = {one.task: one for one in found}
    completion, next_edit, edit = (of_task[task] for task in ("completion", "next_edit", "edit"))
    around = (completion.before, completion.prefix, completion.suffix)
    assert around == ("", "import os\n", "\nprint(x)\ny = compute(x, 0)\nz(y)\n")
    assert (next_edit.before, next_edit.prefix, next_edit.suffix) == (WINDOW, "", "")
    assert (edit.before, edit.prefix, edit.suffix) == (WINDOW, "", "")
    assert edit.lines == 5


def test_a_prompt_at_a_place_may_be_trimmed_and_others_may_not(tokenizer: PreTrainedTokenizerBase) -> None:
    """A file is mostly longer than a prompt; a hunk that is cut asks something else."""
    above = "".join(f"line_{number} = {number}\n" for number in range(400))
    found = [one for one in asked(tokenizer, samples(above=above), behavioral_items=4) if one.task == "completion"]
    assert found
    for one in found:
        text = tokenizer.decode(one.tokens)
        assert len(one.tokens) <= 512 - 64
        assert "line_399 = 399\nimport os\n" in text and "line_0 = 0" not in text
        assert one.prefix.endswith("line_399 = 399\nimport os\n")
        assert len(one.prefix) == 1000, "the rest does not matter where it is parsed"
    long = samples().map(lambda row: {"prompt": above + row["prompt"], "context": [0, len(above)]})
    tasks = {one.task for one in asked(tokenizer, long, behavioral_items=40)}
    assert tasks == {"completion", "next_edit"}


def test_only_questions_with_fitting_answers_are_used(tokenizer: PreTrainedTokenizerBase) -> None:
    keys = {"behavioral_items": 40, "behavioral_max_new_tokens": 30}
    found = asked(tokenizer, samples(), **keys)
    lengths = [len(tokenizer(str(one.truth)).input_ids) + 1 for one in found]
    assert lengths and max(lengths) <= 30
    assert {one.task for one in found} == {"completion", "message"}
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
