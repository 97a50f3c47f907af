"""Answers during training do not change it, and are stored once for each step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback, TrainerState
from trl import SFTTrainer

from blocklm.config.generation import BehaviourArguments
from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.evaluation.generation_eval import SAMPLES, ask, history, read_rows, write_rows
from blocklm.evaluation.questions import GenerationTask
from blocklm.evaluation.scoring import by_task, scores_of
from blocklm.interrupts import Interrupts
from blocklm.models.generation.decoding import Decoding, Output
from blocklm.models.loaded import LoadedModel
from blocklm.training.callbacks.generation_samples import SamplesCallback
from blocklm.training.train import train
from tests.conftest import function
from tests.support.memory import memory_left
from tests.support.trainers import tiny_trainer

FOUR_BIT = {"load_in_4bit": True, "gradient_checkpointing": True, "max_steps": 4, "save_steps": 2, "report_to": []}


def questions(trainer: SFTTrainer) -> list[GenerationTask]:
    """Two texts to complete, and a prompt without a known answer."""
    tokenizer = trainer.processing_class
    found = []
    for number in (3, 40):
        text = function(number)
        head, body, tail = text.partition(f"    return value * {number} + {number % 3}\n")
        names: dict[str, Any] = {"language": "Python", "path": "src/steps.py", "commit": f"{number:040d}"}
        tokens = tuple(tokenizer(head).input_ids)
        found.append(
            GenerationTask(f"completion-{number}", "completion", head, tokens, body, prefix=head, suffix=tail, **names)
        )
    return [*found, GenerationTask("prompt-1", "prompt", "def ", tuple(tokenizer("def ").input_ids))]


Build = Callable[..., tuple[SFTTrainer, SamplesCallback]]


@pytest.fixture
def build_trainer(tiny_models: dict[str, Path], tmp_path: Path) -> Build:
    """Build a trainer whose model answers questions at each evaluation."""

    def build(name: str, temperature: float = 0.0, epochs: float | None = None, **keys: Any) -> Any:
        trainer = tiny_trainer(tiny_models["starcoder2"], tmp_path / name, FOUR_BIT | keys)
        decoding = Decoding(8, temperature, seed=7)
        given = questions(trainer)
        clock = trainer.monitor.metrics.restart_clock
        callback = SamplesCallback(trainer, given, decoding, torch.float32, epochs, clock)
        trainer.add_callback(callback)
        return trainer, callback

    return build


def result(run: Path) -> dict[str, Any]:
    return {name: weight.tolist() for name, weight in load_file(run / "adapter_model.safetensors").items()}


def logged(trainer: SFTTrainer) -> list[Any]:
    return [(row["step"], row.get("loss"), row.get("eval_loss")) for row in trainer.state.log_history[:-1]]


@pytest.fixture(scope="module")
def alone(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Weights and losses of the same training without questions."""
    run = tmp_path_factory.mktemp("alone") / "run"
    trainer = tiny_trainer(tiny_models["starcoder2"], run, FOUR_BIT)
    train(trainer, Interrupts())
    return result(run), logged(trainer)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_questions_do_not_change_the_training_by_a_bit(
    build_trainer: Build, alone: tuple[Any, Any], tmp_path: Path, temperature: float
) -> None:
    """The training is in 4 bit, with dropout and checkpointing."""
    trainer, _ = build_trainer("run", temperature)
    train(trainer, Interrupts())
    assert (result(tmp_path / "run"), logged(trainer)) == alone
    rows = read_rows(tmp_path / "run")
    assert [(row["step"], row["item"]) for row in rows] == [
        (step, item) for step in (0, 2, 4) for item in ("completion-3", "completion-40", "prompt-1")
    ]
    assert rows[0]["truth"] == "    return value * 3 + 0\n" and rows[2]["truth"] is None
    assert set(rows[0]["scores"]) == {
        "exact_match", "edit_similarity", "ended", "identifier_f1", "parse_valid", "first_line", "accepted",
    }  # fmt: skip
    assert rows[2]["scores"] == {} and rows[2]["output"]


def test_a_resumed_training_keeps_each_step_once(build_trainer: Build, tmp_path: Path) -> None:
    """If steps are repeated after a damaged checkpoint, the answers of the last repetition are kept."""
    trainer, _ = build_trainer("run")
    train(trainer, Interrupts())
    complete = (tmp_path / "run" / SAMPLES).read_bytes()
    rows = read_rows(tmp_path / "run")
    write_rows(tmp_path / "run", [*rows[:6], *(row | {"output": "of an earlier step 4"} for row in rows[6:])])
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    trainer, _ = build_trainer("run")
    train(trainer, Interrupts())
    assert (tmp_path / "run" / SAMPLES).read_bytes() == complete
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    trainer, _ = build_trainer("run")
    train(trainer, Interrupts())
    assert (tmp_path / "run" / SAMPLES).read_bytes() == complete


def test_answers_have_their_own_interval_and_include_the_last_step(build_trainer: Build, tmp_path: Path) -> None:
    """An epoch is 16 steps of 4 samples: every eighth of one is every second step."""
    trainer, _ = build_trainer("run", epochs=1 / 8, max_steps=5, eval_steps=1, save_strategy="no")
    train(trainer, Interrupts())
    assert sorted({row["step"] for row in read_rows(tmp_path / "run")}) == [0, 2, 4, 5]


class StopAfterStep2(TrainerCallback):
    """Asks to stop, as a signal does."""

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


def test_a_request_to_stop_does_not_wait_for_answers(build_trainer: Build, tmp_path: Path) -> None:
    trainer, callback = build_trainer("run")
    trainer.remove_callback(callback)
    trainer.add_callback(StopAfterStep2())
    trainer.add_callback(callback)
    train(trainer, Interrupts())
    assert {row["step"] for row in read_rows(tmp_path / "run")} == {0}


def test_scores_and_texts_are_on_the_board(build_trainer: Build, tmp_path: Path) -> None:
    trainer, _ = build_trainer("run", report_to=["tensorboard"], save_strategy="no")
    train(trainer, Interrupts())
    (events,) = (tmp_path / "run" / "tensorboard").glob("events.*")
    board = EventAccumulator(str(events), size_guidance={"scalars": 0, "tensors": 0})
    board.Reload()
    tasks = {entry["step"]: entry["tasks"] for entry in history(read_rows(tmp_path / "run"), 4)["history"]}  # type: ignore[index]
    for name, value in tasks[4]["completion"].items():
        assert [event.step for event in board.Scalars(f"behaviour/completion/{name}")] == [0, 2, 4]
        assert board.Scalars(f"behaviour/completion/{name}")[-1].value == pytest.approx(value)
    text = board.Tensors("behaviour/completion/completion-3/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "**truth**\n\n        return value * 3 + 0\n" in text
    assert "behaviour/prompt/prompt-1/text_summary" in board.Tags()["tensors"]


def test_the_time_of_answers_is_not_that_of_training(build_trainer: Build) -> None:
    trainer, callback = build_trainer("run")
    trainer.monitor.metrics._clock = 0.0
    callback.on_evaluate(trainer.args, trainer.state, trainer.control, model=trainer.model)
    assert trainer.monitor.metrics._clock > 0


def test_a_memory_shortage_during_answers_does_not_end_training(
    build_trainer: Build, alone: tuple[Any, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A prompt that takes gigabytes, with half of one left."""
    trainer, callback = build_trainer("run")
    long = GenerationTask("long", "prompt", "", (5,) * 2_000_000)
    callback._questions = [long]
    with memory_left(300 << 20), caplog.at_level("WARNING", logger="blocklm"):
        with pytest.raises(RuntimeError):
            callback.rehearse(trainer.model)
        train(trainer, Interrupts())
    assert (result(tmp_path / "run"), logged(trainer)) == alone
    assert read_rows(tmp_path / "run") == []
    warnings = [record.getMessage() for record in caplog.records if "could not be asked" in record.getMessage()]
    assert len(warnings) == 3


def test_answers_do_not_depend_on_the_other_prompts_of_a_batch(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", {"report_to": []})
    given, decoding = questions(trainer), Decoding(8)
    loaded = LoadedModel(trainer.model, trainer.processing_class, torch.float32)
    together = ask(loaded, given, decoding)
    single = [ask(loaded, [one], decoding)[0] for one in given]
    assert together == single


def test_each_task_has_its_scores() -> None:
    edit = GenerationTask("e", "edit", "", (), "x = 12\n", "Python", before="x = 1\n")
    assert scores_of(edit, Output("x = 2\n", True)) == {
        "exact_match": 0, "edit_similarity": pytest.approx(5 / 6), "ended": 1, "identifier_f1": 1, "parse_valid": 1,
        "copy_floor": pytest.approx(5 / 6), "delta_chrf": pytest.approx(20.83, abs=0.01),
    }  # fmt: skip
    line = GenerationTask("n", "completion", "", (), "x := 12\n", "Perl")
    assert scores_of(line, Output("x := 12", False)) == {
        "exact_match": 1, "edit_similarity": 1, "ended": 0, "first_line": 1, "accepted": 1,
    }  # fmt: skip
    quiet = GenerationTask("q", "quiet", "", (), "x = 1\n", "Python", before="x = 1\n")
    assert [scores_of(quiet, Output(text, True))["quiet"] for text in ("x = 1\n", "x = 2\n")] == [1, 0]
    message = GenerationTask("m", "message", "", (), "Raise x\n")
    assert scores_of(message, Output("Raise x\n", True)) == {
        "exact_match": 1, "edit_similarity": 1, "ended": 1, "chrf": 100,
    }  # fmt: skip


def test_a_mean_is_over_the_answers_that_have_the_score() -> None:
    edits = [
        {"edit_similarity": 0.5, "copy_floor": 0.5},
        {"edit_similarity": 1.0, "copy_floor": 0.75, "parse_valid": 0.0},
    ]
    means = by_task([("edit", edits[0]), ("prompt", {}), ("edit", edits[1])])
    assert means == {
        "edit": {
            "items": 2,
            "edit_similarity": 0.75,
            "copy_floor": 0.625,
            "parse_valid": 0,
            "gain": pytest.approx(1 / 3),
        }
    }


def test_the_history_records_which_weights_were_saved() -> None:
    rows = [
        {"step": step, "task": "completion", "scores": {"exact_match": value}}
        for step, value in ((0, 0.0), (2, 1.0), (4, 0.5))
    ]
    found = history(rows, 2)
    assert found is not None
    assert found["step"] == 2
    assert found["tasks"] == {"completion": {"items": 1, "exact_match": 1}}
    assert [entry["tasks"]["completion"]["exact_match"] for entry in found["history"]] == [0, 1, 0.5]
    assert history([], 2) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("items", "-1"), ("max_new_tokens", "0"), ("temperature", "-0.1"), ("epochs", "0"), ("prompts", " ")],
)
def test_an_invalid_request_is_refused(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "a.yaml").write_text("model_name_or_path: x\nbehavioral_prompts:\n- |\n  fn main() {\n")
    kept = parse_recipe([str(tmp_path / "a.yaml")]).behaviour
    assert kept == BehaviourArguments(behavioral_prompts=["fn main() {\n"])
    with pytest.raises(UserError, match=f"`behavioral_{key}`"):
        parse_recipe([str(tmp_path / "a.yaml"), f"--behavioral_{key}", value])
