"""The exam of a complete run again: the same questions, other models, other adapters."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset
from safetensors.torch import load_file, save_file

from tests.support.scripts import refused, run_in_process


def test_the_exam_can_be_repeated_with_the_same_result(run: Path, workplace: Path) -> None:
    """It is repeated from the stored answers, and from the saved model."""
    before = json.loads((run / "exam.json").read_text())
    kept = run / "exam-answers.jsonl"
    for answers in (True, False):
        if answers:
            lines = kept.read_text().split()
            done = run_in_process("evaluate.py", run, "--quick", "--exam_items", "12", cwd=workplace)
            assert done.returncode == 0, done.stderr
            assert kept.read_text().split() == lines, "nothing was asked that had been answered"
        else:
            kept.unlink()
        done = run_in_process("evaluate.py", run, "--exam_task_items", "2", cwd=workplace)
        assert done.returncode == 0, done.stderr
        assert json.loads((run / "exam.json").read_text()) == before
        after = json.loads((run / "exam-again.json").read_text())
        assert after["base"]["bits_per_byte"] == pytest.approx(before["base"]["bits_per_byte"], rel=1e-5)
        assert after["tuned"]["bits_per_byte"] == pytest.approx(before["tuned"]["bits_per_byte"], rel=1e-5)
        assert list(after["arms"]) == ["tuned+none", "tuned+file", "tuned+bm25", "base+none", "base+file", "base+bm25"]
        rows = Dataset.from_parquet(str(run / "exam-again-tasks.parquet")).to_list()
        assert Counter(row["task"] for row in rows) == {name: task["items"] for name, task in after["tasks"].items()}
        assert {"edit", "body"} <= after["tasks"].keys()
        assert all(row["base"] is not None and row["tuned"] is not None and row["prompt"] for row in rows)
        for name in after["tasks"]:
            assert f"  {name.replace('_', ' ')} " in done.stdout


def test_another_model_and_another_adapter_answer_the_same_questions(
    run: Path, workplace: Path, tiny_models: dict[str, Path]
) -> None:
    """Answers of one control are not reused for another, and a copy of the run at another strength changes nothing."""
    silent, weaker = workplace / "runs" / "silent", workplace / "runs" / "weaker"
    shutil.copytree(run, silent)
    weights = load_file(silent / "adapter_model.safetensors")
    save_file({name: 0 * weight for name, weight in weights.items()}, silent / "adapter_model.safetensors")
    shutil.copytree(run, weaker)
    adapter = json.loads((weaker / "adapter_config.json").read_text())
    (weaker / "adapter_config.json").write_text(json.dumps(adapter | {"lora_alpha": adapter["lora_alpha"] / 4}))
    for control, more in ((silent, ()), (weaker, ("--model", tiny_models["gpt2"]))):
        done = run_in_process("evaluate.py", run, "--quick", "--control", control, *more, cwd=workplace)
        assert done.returncode == 0, done.stderr
        found = json.loads((run / "exam-again.json").read_text())
        against = found["controls_mean"]["tuned_against_it"]["delta_percent"]
        assert (against == pytest.approx(0, abs=1e-4)) == (control == weaker)
        assert re.search(r"The own adapter is number [12] of 2\n.*\n +control:.*\n +mean of them ", done.stdout)
    (other,) = found["models"].values()
    assert other["items"] == found["items"]
    assert other["tuned_bits_per_byte"] == pytest.approx(found["tuned"]["bits_per_byte"])
    assert other["bits_per_byte"] != pytest.approx(found["base"]["bits_per_byte"], rel=1e-3)


def test_keys_that_change_the_training_data_are_refused(run: Path, workplace: Path) -> None:
    done = run_in_process("evaluate.py", run, "--test_commits", "20", cwd=workplace)
    assert "would change what was trained on" in refused(done)
