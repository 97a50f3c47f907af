"""All arms are scored on the same tokens, whatever they are shown, and none twice."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from blocklm.evaluation.exam.adapter_scale import choose_strength, set_strength
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.compare import Arm, bits_of_arm, run_exam
from blocklm.evaluation.exam.forgetting import general_items, measure_forgetting
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.models.adapter import put_adapter
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.runs.fingerprint import weights_of


def questions(model: Path, shown: str = "") -> list[ExamItem]:
    """Four questions, with some text before each."""
    lines = ["return value + 1", "x", "raise ValueError(value)", "y = 2"]
    columns: dict[str, list[Any]] = {
        "id": [f"i{at}" for at in range(4)],
        "prompt": [f"{shown}# step {at}\n" for at in range(4)],
        "context": [[0, len(shown) + 9]] * 4,
        "completion": [f"a\n{line}\nb\n" for line in lines],
        "added": [[2, 3 + len(line)] for line in lines],
        "commit": ["c0", "c1", "c2", "c2"],
        "path": ["src/lib/a.py", "src/lib/b.py", "c.py", "c.py"],
        "language": ["Python"] * 4,
        "view": ["edit"] * 4,
        "seen_lines": [False, False, True, False],
    }
    return exam_items(columns, AutoTokenizer.from_pretrained(model), 512)


@pytest.fixture
def items(tiny_models: dict[str, Path]) -> list[ExamItem]:
    return questions(tiny_models["llama"])


@pytest.fixture
def with_more(tiny_models: dict[str, Path]) -> dict[str, ExamItem]:
    """The same questions, with a line more around each."""
    return {item.id: item for item in questions(tiny_models["llama"], "def step(value):\n")}


@pytest.fixture
def tuned(tiny_models: dict[str, Path], tmp_path: Path) -> PeftModel:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_models["llama"])
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(tmp_path / "run")
    return model


def loaded(model: Any) -> LoadedModel:
    """The model with a tokenizer whose pad token is 0."""
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    tokenizer.pad_token_id = 0
    return LoadedModel(model, tokenizer, torch.float32)


def bits_of(model: Any, items: list[ExamItem]) -> list[float]:
    return bits_of_rows(loaded(model), [item.encoded for item in items], "test")


def test_items_are_sliced_by_language_folder_length_kind_view_and_lines(items: list[ExamItem]) -> None:
    slices = [dict(item.slices or {}) for item in items]
    assert slices[0] == {
        "language": "Python", "folder": "src/lib", "length": "11 to 40 characters", "kind": "replaces", "lines": "some new",
        "view": "edit",
    }  # fmt: skip
    assert [there["length"] for there in slices] == ["11 to 40 characters", "to 10 characters"] * 2
    assert (slices[2]["folder"], slices[2]["lines"]) == (".", "all seen in training")


def test_a_question_that_added_nothing_is_not_asked(tiny_models: dict[str, Path]) -> None:
    """Such as a place where nothing was to change: it has no bytes to compare bits by."""
    columns: dict[str, list[Any]] = {
        "id": ["quiet", "edit"], "prompt": ["### a.py\n"] * 2, "context": [[0, 0]] * 2, "completion": ["x = 1\n"] * 2,
        "added": [[], [0, 6]], "commit": ["c"] * 2, "path": ["a.py"] * 2, "language": ["Python"] * 2,
    }  # fmt: skip
    found = exam_items(columns, AutoTokenizer.from_pretrained(tiny_models["llama"]), 512)
    assert [item.id for item in found] == ["edit"]


def test_a_search_asks_for_the_path_and_the_text_before_the_answer(
    items: list[ExamItem], tiny_models: dict[str, Path]
) -> None:
    assert items[0].text == "src/lib/a.py\n# step 0\n"
    long = questions(tiny_models["llama"], "".join(f"a_{number} = {number}\n" for number in range(200)))
    assert long[0].text.startswith("src/lib/a.py\n") and long[0].text.endswith("a_199 = 199\n# step 0\n")
    assert len(long[0].text) == len("src/lib/a.py\n") + 1000


def test_an_arm_that_is_shown_more_is_scored_on_the_same_tokens(
    items: list[ExamItem], with_more: dict[str, ExamItem], tuned: PeftModel, tmp_path: Path
) -> None:
    for item in items:
        ours, theirs = item.encoded, with_more[item.id].encoded
        assert len(theirs.input_ids) > len(ours.input_ids)
        texts = [
            [token for token, counts in zip(one.input_ids, one.scored, strict=True) if counts]
            for one in (ours, theirs)
        ]
        assert texts[0] == texts[1]

    def opens() -> Any:
        return nullcontext(loaded(tuned))

    some = {name: with_more[name] for name in ("i1", "i3")}
    arms = [Arm("tuned", "w", opens), Arm("base", "w", opens), Arm("tuned+none", "w", opens, some)]
    with Answers(tmp_path / "answers.jsonl") as answers:
        bits = {arm.name: bits_of_arm(arm, items, answers) for arm in arms}
    assert bits["tuned"] == bits["base"]
    assert [one == other for one, other in zip(bits["tuned"], bits["tuned+none"], strict=True)] == [True, False] * 2
    assert list(map(sum, bits["tuned+none"][1::2])) == pytest.approx(bits_of(tuned, list(some.values())), rel=1e-4)


def test_an_interrupted_exam_asks_only_the_remaining_questions(
    items: list[ExamItem], with_more: dict[str, ExamItem], tuned: PeftModel, tmp_path: Path
) -> None:
    """It opens only the unfinished arm, and gives the result of an uninterrupted exam."""
    weights = weights_of(tmp_path / "run")

    def arms(open_tuned: Any) -> list[Arm]:
        return [
            Arm("tuned", weights, open_tuned, {"i1": with_more["i1"]}),
            Arm("base", "base", lambda: nullcontext(loaded(tuned))),
        ]

    with Answers(tmp_path / "uninterrupted.jsonl") as answers:
        uninterrupted = run_exam(items, arms(lambda: nullcontext(loaded(tuned))), answers)
    lines = (tmp_path / "uninterrupted.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "torn.jsonl").write_text("".join(lines[:5]) + lines[5][:9])
    with Answers(tmp_path / "torn.jsonl") as answers:
        again = run_exam(items, arms(lambda: pytest.fail("it has answered")), answers)
    assert again == uninterrupted
    assert {"arms", "slices", "per_item"} <= uninterrupted.keys()
    with Answers(tmp_path / "torn.jsonl") as answers, pytest.raises(pytest.fail.Exception):
        run_exam(
            items,
            [Arm("tuned", "other weights", lambda: pytest.fail("answered again")), *arms(None)[1:]],
            answers,
        )


def test_the_strength_with_the_fewest_bits_is_chosen_and_kept(
    items: list[ExamItem], tuned: PeftModel, tmp_path: Path
) -> None:
    """A random adapter does harm, so the smallest scale is best. The saved adapter acts with the chosen scale."""
    before = bits_of(tuned, items)
    found = choose_strength(loaded(tuned), items, [1.0, 0.25])
    assert found["chosen"] == 0.25
    assert found["bits_per_byte"]["1"] == pytest.approx(sum(before) / sum(item.added_bytes for item in items))
    assert bits_of(tuned, items) == before
    for _ in range(2):
        set_strength(tuned, tmp_path / "run", 8 * 0.25)
    assert json.loads((tmp_path / "run" / "adapter_config.json").read_text())["lora_alpha"] == 2.0
    after = bits_of(tuned, items)
    assert sum(after) / sum(item.added_bytes for item in items) == pytest.approx(found["bits_per_byte"]["0.25"])
    reloaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tuned.name_or_path), tmp_path / "run")
    assert bits_of(reloaded, items) == pytest.approx(after)


def test_a_single_strength_needs_no_questions(tuned: PeftModel) -> None:
    assert choose_strength(loaded(tuned), [], [0.5]) == {"chosen": 0.5, "bits_per_byte": {}}


def test_an_adapter_is_continued_at_its_chosen_strength(
    items: list[ExamItem], tuned: PeftModel, tmp_path: Path
) -> None:
    set_strength(tuned, tmp_path / "run", 2.0)
    chosen = bits_of(tuned, items)
    base = AutoModelForCausalLM.from_pretrained(tuned.name_or_path)
    fresh = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    put_adapter(fresh, tmp_path / "run")
    assert bits_of(fresh, items) == pytest.approx(chosen)


def test_general_texts_are_scored_in_pieces_and_a_rise_above_three_percent_is_flagged(
    tiny_models: dict[str, Path],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    assert not general_items(tokenizer, 16), "a model that reads 16 tokens at once has no general items"
    general = general_items(tokenizer, None)
    assert len({item.path for item in general}) == 10
    assert sum(item.added_bytes for item in general) > 17_000
    bits = [8.0 * item.added_bytes for item in general]
    assert measure_forgetting([], {"base": [], "tuned": []}) is None
    for factor, flagged in ((1.02, False), (1.04, True), (0.9, False)):
        found = measure_forgetting(general, {"base": bits, "tuned": [factor * there for there in bits]})
        assert found is not None
        assert found["rise_percent"] == pytest.approx(100 * (factor - 1))
        assert found["flagged"] is flagged
        assert found["texts"]["tides"] == {"base": pytest.approx(8), "tuned": pytest.approx(8 * factor)}
