"""The main job from end to end: what a run leaves, what its flags do, and what it refuses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import GitRepository
from tests.support.runs import manifest, weights
from tests.support.scripts import refused, run_in_process, script_environment

Train = Callable[..., Path]


def test_a_complete_run_has_all_its_phases_and_files(trained: Path) -> None:
    content = manifest(trained)
    assert content["status"] == "complete"
    assert [phase["name"] for phase in content["phases"]] == [
        "plan",
        "mine",
        "curate",
        "render",
        "train",
        "exam",
        "save",
    ]
    assert {phase["status"] for phase in content["phases"]} == {"complete"}
    assert content["training"]["steps"] == content["plan"]["steps"] == 12
    assert content["plan"]["micro_batch"] == content["training"]["micro_batch"] == 2
    assert 0 < content["plan"]["memory"]["weights"] < content["plan"]["memory"]["total"]
    assert content["training"]["tokens_seen"] > 0
    usage = content["hardware"]["usage"]
    assert usage["samples"] >= 2
    ram = usage["series"]["process_ram_mib"]
    assert 0 < ram["min"] <= ram["mean"] <= ram["p95"] <= ram["max"]
    assert content["exam"]["commits"] == 7
    asked = content["generation"]
    assert [entry["step"] for entry in asked["history"]] == [0, 4, 8, 12]
    assert asked["step"] == 12 and asked["tasks"] == asked["history"][-1]["tasks"]
    assert sum(scores["items"] for scores in asked["tasks"].values()) == 3
    assert content["corpus"]["splits"]["train"]["used"] >= 15
    assert content["corpus"]["exposures"]["definitions"] >= 20
    assert content["corpus"]["exposures"]["p90"] >= 1
    recorded = {artifact["path"] for artifact in content["artifacts"]}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "README.md",
        "recipe.yaml",
        "samples.jsonl",
    } <= recorded
    assert list((trained / "tensorboard").glob("events.*"))
    assert len(json.loads((trained / "exam.json").read_text())["per_item"]) == content["exam"]["items"]
    assert "example.org" not in (trained / "manifest.json").read_text()


def test_definitions_decide_what_is_read_and_when_training_ends(train: Callable[..., Path]) -> None:
    views = "{completion: 2, next_edit: 1, card: 1}"
    keys = ("--target_exposures", "2", "--num_train_epochs", "20", "--max_steps", "-1", "--retrieved_share", "0.5")
    content = manifest(train("starcoder2", "--views", views, *keys, "--eval_strategy", "no", "--exam", "false"))
    exposures = content["corpus"]["exposures"]
    assert (exposures["target"], exposures["reached"], exposures["never_met"]) == (2, 1, 0)
    assert content["corpus"]["splits"]["train"]["shares"]["card"] > 0
    assert 0 < content["training"]["epochs"] < 20


def test_the_cards_code_loads_the_adapter_which_changes_the_logits(trained: Path) -> None:
    """The code runs in a new process."""
    card = (trained / "README.md").read_text()
    assert "library_name: peft" in card
    assert "95 % interval" in card
    code = card.split("```python\n")[1].split("```")[0] + (
        "import sys, torch; ids = torch.tensor([[5, 6, 7]]); tuned = model(ids).logits\n"
        "with model.disable_adapter(): sys.exit(bool(torch.allclose(model(ids).logits, tuned)))"
    )
    place = trained.parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True, env=script_environment())


def test_the_same_command_reports_a_complete_run(run: Path, workplace: Path) -> None:
    before = (run / "manifest.json").read_bytes()
    done = run_in_process("train.py", run / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0
    assert "already complete" in done.stdout
    assert (run / "manifest.json").read_bytes() == before


def test_a_run_that_ended_in_its_exam_trains_no_further(trained: Path, run: Path, workplace: Path) -> None:
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "interrupted", "exam": None}))
    done = run_in_process("train.py", run / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert weights(run) == weights(trained)
    assert manifest(run)["status"] == "complete"
    assert manifest(run)["exam"]["tuned"] == pytest.approx(manifest(trained)["exam"]["tuned"], rel=1e-5)


def test_full_fine_tuning_saves_a_full_model(train: Train) -> None:
    run = train("gpt2", "--use_peft", "false", "--max_steps", "2")
    assert (run / "model.safetensors").is_file()
    assert not (run / "adapter_config.json").exists()
    assert manifest(run)["saved"]["differs_from_base"]


def test_eight_bit_trains(train: Train) -> None:
    assert manifest(train("phi", "--load_in_8bit", "--max_steps", "2"))["status"] == "complete"


def test_early_stopping_ends_a_run_that_no_longer_improves(train: Train) -> None:
    training = manifest(train("llama", "--early_stopping_patience", "1", "--learning_rate", "0"))["training"]
    assert training["stopped_by"] == "early_stopping"
    assert training["steps"] == 8


def test_bad_input_ends_in_one_line_and_a_hint(
    make_repository: Callable[[str], GitRepository],
    tmp_path: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
    project: Path,
) -> None:
    make_repository("unborn")
    (tmp_path / "zip" / "src").mkdir(parents=True)
    prose = make_repository("prose")
    young = make_repository("young")
    for number in range(6):
        prose.commit(f"commit {number}", {"README.md": f"{number}\n"})
    for number in range(3):
        young.commit(f"commit {number}", {f"m{number}.py": f"x = {number}\n"})

    def train(repo: Path, *more: str) -> str:
        model = ["--model_name_or_path", str(tiny_models["llama"])]
        done = run_in_process(
            "train.py", tiny_recipe, *model, "--repo", repo, "--output_dir", tmp_path / "run", *more, cwd=tmp_path
        )
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return refused(done)

    assert "does not exist" in train(tmp_path / "absent")
    assert "a downloaded zip holds no history" in train(tmp_path / "zip")
    assert "has no commits" in train(tmp_path / "unborn")
    assert "6 hunks of documentation" in train(prose.path)
    assert "3 commits with code to learn from are too few" in train(young.path)
    assert "`models/absent` does not exist" in train(project, "--model_name_or_path", "models/absent")
    assert "hf download nobody/nothing" in train(project, "--model_name_or_path", "nobody/nothing")
    assert "did you mean `learning_rate`" in train(project, "--learning_rat", "1")
    assert "more than the 1024 positions" in train(project, "--max_length", "4096")
    assert "does not have" in train(project, "--lora_target_modules", "c_attn")
    assert "round multiple" in train(project, "--load_best_model_at_end", "--eval_steps", "3")
    (tmp_path / "file").touch()
    assert "must be folders" in train(project, "--output_dir", str(tmp_path / "file"))


def test_a_run_directory_is_not_shared(run: Path, workplace: Path, project: Path) -> None:
    """Neither another recipe nor a later state of the repository may use it."""
    recipe = run / "recipe.yaml"
    other = run_in_process("train.py", recipe, "--seed", "9", cwd=workplace)
    assert "`seed` was 7, now 9" in refused(other)
    shutil.copytree(project, workplace / "project")
    recipe.write_text(recipe.read_text().replace(str(project), str(workplace / "project")))
    GitRepository(workplace / "project", commits=50).commit("A later commit", {"src/late.py": "x = 1\n"})
    assert "was trained on commit" in refused(run_in_process("train.py", recipe, cwd=workplace))
    assert (run / "adapter_model.safetensors").is_file()
