"""All arms are scored on the same tokens, none twice, with context that fits and is older than the question."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from blocklm.corpus.prompt_templates import FAMILY
from blocklm.evaluation.exam.adapter_scale import choose_strength, set_strength
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.compare import Arm, run_exam
from blocklm.evaluation.exam.contexts import example_contexts, piece_contexts
from blocklm.evaluation.exam.forgetting import general_items, measure_forgetting
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.models.adapter import put_adapter
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.retrieval.parent_files import Piece
from blocklm.runs.fingerprint import weights_of


@pytest.fixture
def items(tiny_models: dict[str, Path]) -> list[ExamItem]:
    lines = ["return value + 1", "x", "raise ValueError(value)", "y = 2"]
    columns: dict[str, list[Any]] = {
        "id": [f"i{at}" for at in range(4)],
        "prompt": [f"# step {at}\n" for at in range(4)],
        "context": [[0, 9]] * 4,
        "completion": [f"a\n{line}\nb\n" for line in lines],
        "added": [[2, 3 + len(line)] for line in lines],
        "commit": ["c0", "c1", "c2", "c2"],
        "path": ["src/lib/a.py", "src/lib/b.py", "c.py", "c.py"],
        "language": ["Python"] * 4,
        "view": ["edit"] * 4,
        "seen_lines": [False, False, True, False],
    }
    return exam_items(columns, AutoTokenizer.from_pretrained(tiny_models["llama"]), 512)


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


def test_items_are_sliced_by_language_folder_length_kind_and_lines(items: list[ExamItem]) -> None:
    slices = [dict(item.slices or {}) for item in items]
    assert slices[0] == {
        "language": "Python", "folder": "src/lib", "length": "11 to 40 characters", "kind": "replaces", "lines": "some new",
    }  # fmt: skip
    assert [there["length"] for there in slices] == ["11 to 40 characters", "to 10 characters"] * 2
    assert (slices[2]["folder"], slices[2]["lines"]) == (".", "all seen in training")


def test_context_before_a_question_is_read_and_not_scored(items: list[ExamItem], tuned: PeftModel) -> None:
    longer, ids, start = items[0].after([5, 6, 7]), items[0].encoded.input_ids, items[0].start
    assert longer.encoded.input_ids == [*ids[:start], 5, 6, 7, *ids[start:]]
    assert sum(longer.encoded.scored) == sum(items[0].encoded.scored)
    assert bits_of(tuned, [longer]) != bits_of(tuned, [items[0]])
    assert bits_of(tuned, [items[0].after([])]) == bits_of(tuned, [items[0]])


def test_an_interrupted_exam_asks_only_the_remaining_questions(
    items: list[ExamItem], tuned: PeftModel, tmp_path: Path
) -> None:
    """It opens only the unfinished arm, and gives the result of an uninterrupted exam."""
    weights = weights_of(tmp_path / "run")

    def arms(open_tuned: Any) -> list[Arm]:
        return [
            Arm("tuned", weights, open_tuned, {"i1": [5, 6]}),
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


def test_examples_are_the_nearest_changes_as_far_as_they_fit(
    items: list[ExamItem], tiny_models: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    samples = {
        "path": ["far.md", "near.py", "nearer.py"],
        "prompt": ["nothing alike ", "# step of value ", "src lib step 0 "],
        "completion": ["x\n", "near\n", "nearer\n"],
    }
    found = example_contexts(items, samples, tokenizer, lambda item: 1000)
    assert tokenizer.decode(found["i0"]).endswith("src lib step 0 nearer\n")
    short = example_contexts(
        items, samples, tokenizer, lambda item: len(tokenizer("src lib step 0 nearer\n").input_ids)
    )
    assert tokenizer.decode(short["i0"]) == "src lib step 0 nearer\n"
    assert example_contexts(items, samples, tokenizer, lambda item: 0)["i0"] == []
    assert example_contexts([replace(items[0], text="--\n")], samples, tokenizer, lambda item: 1000)["i0"] == []


def test_pieces_read_as_files_do_and_none_breaks_the_prompt(
    items: list[ExamItem], tiny_models: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["starcoder2"])
    pieces = [Piece("server", "a.rs", "fn a() {}\n"), Piece("server", "b.rs", 'let x = "<file_sep>";\n')]
    found = piece_contexts(
        items[:1], [pieces], FAMILY["starcoder2"], frozenset({"<file_sep>"}), tokenizer, lambda item: 99
    )
    assert tokenizer.decode(found["i0"]) == "<repo_name>server<file_sep>a.rs\nfn a() {}\n"


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
