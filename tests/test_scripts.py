"""The commands as a user runs them: mine, train, interrupt, resume, examine, and every refusal in one clear line."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from safetensors.torch import load_file

from tests.conftest import ROOT, GitRepository, run_script, script_environment

PHASES = "{early: {share: 0.5, span: [0.0, 0.6]}, late: {share: 0.5, span: [0.4, 1.0], max_length: 256}}"
DDP, FSDP2 = (str(ROOT / "recipes" / "accelerate" / name) for name in ("ddp.yaml", "fsdp2.yaml"))
# Two epochs of 15 samples, four to a step.
EPOCHS = ["--lora_dropout", "0", "--load_in_4bit", "--max_train_samples", "15", "--max_steps", "-1", "--num_train_epochs", "2",
          "--save_steps", "2", "--eval_strategy", "no", "--exam_items", "8"]  # fmt: skip
SHORT = ["--max_steps", "12", "--save_steps", "4", "--eval_steps", "4", "--logging_steps", "1", "--exam_items", "8",
         "--gradient_accumulation_steps", "1", "--max_length", "512", "--max_validation_samples", "4",
         "--behavioral_items", "4", "--exam_task_items", "0"]  # fmt: skip


def manifest(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "manifest.json").read_text()))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's own: corpora and runs appear in it."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def trained(workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> Path:
    """A run of the tiny Llama that went through without a stop."""
    done = run_script(
        "train.py", tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["llama"], "--output_dir", "runs/whole",
        cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout
    said = done.stderr.splitlines()
    assert len([line for line in said if line.startswith("step 1 of 12: loss ")]) == 1, "once a minute, no live line"
    assert [line.split(":")[0] for line in said if "evaluation loss" in line] == ["step 4", "step 8", "step 12"]
    assert "{'" not in done.stdout + done.stderr, "no printed dictionaries"
    return workplace / "runs" / "whole"


@pytest.mark.parametrize(
    "name", ["train.py", "mine.py", "evaluate.py", "fetch_model.py", "export.py", "report.py", "generate.py"]
)
def test_help_teaches(name: str, tmp_path: Path) -> None:
    done = run_script(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"scripts/{name}" in done.stdout


def test_a_run_leaves_what_the_design_promises(trained: Path) -> None:
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
    assert sum(scores["items"] for scores in asked["tasks"].values()) == 4
    assert content["corpus"]["splits"]["train"]["used"] >= 15
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


def test_the_adapter_loads_in_a_fresh_process_and_changes_the_logits(
    trained: Path, tiny_models: dict[str, Path]
) -> None:
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM as A; ids = torch.tensor([[5, 6, 7]]);"
        "base = A.from_pretrained(sys.argv[1])(ids).logits; tuned = A.from_pretrained(sys.argv[2])(ids).logits;"
        "sys.exit(bool(torch.allclose(base, tuned)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_models["llama"]), str(trained)], check=True)


def test_the_card_loads_as_it_says(trained: Path, workplace: Path) -> None:
    card = (trained / "README.md").read_text()
    assert "library_name: peft" in card
    assert "95 % interval" in card
    code = card.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", code], cwd=workplace, check=True, env=script_environment())


def test_the_report_can_be_built_again_to_the_same_bytes(trained: Path, workplace: Path, tmp_path: Path) -> None:
    before = (trained / "report.html").read_bytes()
    assert b"What the commit wrote" in before
    (trained / "report.html").unlink()
    done = run_script("report.py", trained, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(trained / "report.html")
    assert (trained / "report.html").read_bytes() == before
    assert "holds no manifest.json" in refused(run_script("report.py", tmp_path, cwd=workplace))


def test_the_same_command_again_says_it_is_complete(trained: Path, workplace: Path, project: Path) -> None:
    before = (trained / "manifest.json").read_bytes()
    done = run_script("train.py", trained / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0
    assert "already complete" in done.stdout
    assert (trained / "manifest.json").read_bytes() == before


def test_the_exam_can_be_sat_again_with_the_same_result(trained: Path, workplace: Path) -> None:
    """Once from the answers that are there, once from the model that was saved."""
    before = json.loads((trained / "exam.json").read_text())
    kept = trained / "exam-answers.jsonl"
    for answers in (True, False):
        if answers:
            lines = kept.read_text().split()
            done = run_script("evaluate.py", trained, "--quick", "--exam_items", "12", cwd=workplace)
            assert done.returncode == 0, done.stderr
            assert kept.read_text().split() == lines, "nothing was asked that had been answered"
        else:
            kept.unlink()
        done = run_script("evaluate.py", trained, "--exam_task_items", "2", cwd=workplace)
        assert done.returncode == 0, done.stderr
        assert json.loads((trained / "exam.json").read_text()) == before
        after = json.loads((trained / "exam-again.json").read_text())
        assert after["base"]["bits_per_byte"] == pytest.approx(before["base"]["bits_per_byte"], rel=1e-5)
        assert after["tuned"]["bits_per_byte"] == pytest.approx(before["tuned"]["bits_per_byte"], rel=1e-5)
        assert list(after["arms"]) == ["tuned+bm25", "base+examples", "base+bm25"]
        rows = Dataset.from_parquet(str(trained / "exam-again-tasks.parquet")).to_list()
        assert Counter(row["task"] for row in rows) == {name: task["items"] for name, task in after["tasks"].items()}
        assert {"edit", "body"} <= after["tasks"].keys()
        assert all(row["base"] is not None and row["tuned"] is not None and row["prompt"] for row in rows)
        for name in after["tasks"]:
            assert f"  {name} " in done.stdout


def test_another_model_and_another_adapter_answer_the_same_questions(
    trained: Path, workplace: Path, tiny_models: dict[str, Path]
) -> None:
    """The run as a control of itself changes nothing, and what one control answered is not taken for another's."""
    weaker = workplace / "runs" / "weaker"
    shutil.copytree(trained, weaker)
    adapter = json.loads((weaker / "adapter_config.json").read_text())
    (weaker / "adapter_config.json").write_text(json.dumps(adapter | {"lora_alpha": adapter["lora_alpha"] / 4}))
    for control, more in ((weaker, ()), (trained, ("--model", tiny_models["gpt2"]))):
        done = run_script("evaluate.py", trained, "--quick", "--control", control, *more, cwd=workplace)
        assert done.returncode == 0, done.stderr
        found = json.loads((trained / "exam-again.json").read_text())
        against = found["arms"]["control"]["tuned_against_it"]["delta_percent"]
        assert (against == pytest.approx(0, abs=1e-4)) == (control == trained)
    (other,) = found["models"].values()
    assert other["items"] == found["items"]
    assert other["tuned_bits_per_byte"] == pytest.approx(found["tuned"]["bits_per_byte"])
    assert other["bits_per_byte"] != pytest.approx(found["base"]["bits_per_byte"], rel=1e-3)


def test_the_exam_is_not_sat_on_what_was_trained_on(trained: Path, workplace: Path) -> None:
    done = run_script("evaluate.py", trained, "--test_commits", "20", cwd=workplace)
    assert "would change what was trained on" in refused(done)


def test_a_run_that_ended_in_its_exam_trains_no_further(trained: Path, tmp_path: Path, workplace: Path) -> None:
    shutil.copytree(trained, workplace / "runs" / "examined")
    run = workplace / "runs" / "examined"
    recipe = (run / "recipe.yaml").read_text().replace("runs/whole", "runs/examined")
    (run / "recipe.yaml").write_text(recipe)
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "interrupted", "exam": None}))
    done = run_script("train.py", run / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert weights(run) == weights(trained)
    assert manifest(run)["status"] == "complete"
    assert manifest(run)["exam"]["tuned"] == pytest.approx(manifest(trained)["exam"]["tuned"], rel=1e-5)


def test_mine_shows_repository_funnel_and_splits(trained: Path, workplace: Path) -> None:
    done = run_script("mine.py", trained / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    for word in (
        "35 commits (1 merges) by 1 authors",
        "files per commit: p50 1",
        "vendored",
        "code copied in from elsewhere",
        "validation",
        "corpora/project",
    ):
        assert word in done.stdout


def test_the_base_model_is_asked_which_prompts_suit_it(
    workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    asked: list[str | Path] = [
        tiny_recipe,
        "--repo",
        project,
        "--model_name_or_path",
        tiny_models["starcoder2"],
        "--views",
        "{edit: 1, fim: 1}",
    ]
    shown = run_script("mine.py", *asked, "--probe", cwd=workplace)
    assert shown.returncode == 0, shown.stderr
    for word in ("prompts that suit the base model", "starcoder2 ", "plain ", "padding in batches of 2:", "packed"):
        assert word in shown.stdout
    run = workplace / "runs" / "probed"
    done = run_script(
        "train.py", *asked, "--template", "probe", "--max_steps", "2", "--output_dir", run, "--quiet", cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "step" in line or "watched" in line or "it/s" in line]
    corpus = manifest(run)["corpus"]
    assert set(corpus["probe"]["edit"]) == {"starcoder2", "plain", "files", "bare"}
    assert corpus["prompts"] == {view: next(iter(found)) for view, found in corpus["probe"].items()}
    refused = run_script("mine.py", *asked, "--template", "qwen-coder", cwd=workplace)
    assert refused.returncode == 2
    assert "`template` cannot be 'qwen-coder' for this model" in refused.stderr


class Running:
    """A training process that can be watched and stopped."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=script_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_for(self, path: Path) -> None:
        for _ in range(1800):
            if path.exists():
                return
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError(f"{path} did not appear")

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


@pytest.fixture
def start(workplace: Path) -> Iterator[Callable[[list[str]], Running]]:
    """Start training processes and leave none behind."""
    started: list[Running] = []

    def begin(arguments: list[str]) -> Running:
        started.append(Running(arguments, workplace))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait()


def weights(run: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in load_file(run / "adapter_model.safetensors").items()}


@pytest.mark.parametrize(
    ("recipe", "family", "stop", "code", "more"),
    [
        ("starcoder2", "starcoder2", signal.SIGINT, 130, ["--phases", PHASES]),
        ("phi2", "phi", signal.SIGKILL, -9, ["--packing", "true"]),
        ("gpt2", "gpt2", signal.SIGTERM, 143, []),
    ],
)
def test_a_shipped_recipe_trains_stops_and_resumes_to_the_same_adapter(
    workplace: Path, project: Path, tiny_models: dict[str, Path], start: Callable[[list[str]], Running],
    recipe: str, family: str, stop: signal.Signals, code: int, more: list[str],
) -> None:  # fmt: skip
    """Quantised where the recipe says so, with the real bitsandbytes on the CPU; all views, in phases, or packed."""
    common = [str(ROOT / "recipes" / f"{recipe}.yaml"), "--repo", str(project), *SHORT, *more]
    common += ["--model_name_or_path", str(tiny_models[family])]
    whole, stopped = workplace / "runs" / recipe, workplace / "runs" / f"{recipe}-stopped"
    done = run_script("train.py", *common, "--output_dir", whole, cwd=workplace)
    assert done.returncode == 0, done.stderr

    arguments = [*common, "--output_dir", str(stopped)]
    running = start(arguments)
    running.wait_for(stopped / "checkpoint-4" / "trainer_state.json")
    running.process.send_signal(stop)
    ended, output = running.end()
    assert ended == code, output
    assert "Traceback" not in output
    assert manifest(stopped)["status"] == "interrupted"
    if stop != signal.SIGKILL:
        assert "interrupted in its train phase" in (stopped / "report.html").read_text()

    done = run_script("train.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    content = manifest(stopped)
    assert content["status"] == "complete"
    assert content["training"]["resumed_from"] >= 4
    assert content["training"]["steps"] == 12
    assert content["training"]["optim"].startswith("adamw_torch"), "there is no GPU whose memory 8 bit would save"
    assert any("instead of paged_adamw_8bit" in why for why in content["plan"]["reasons"]) == (recipe != "gpt2")
    assert weights(stopped) == weights(whole)
    assert (stopped / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert any(value for name, tensor in weights(whole).items() if "lora_B" in name for row in tensor for value in row)


@pytest.mark.parametrize(
    ("signum", "config"), [(signal.SIGINT, str(ROOT / "accelerate_config.yaml")), (signal.SIGTERM, DDP)]
)
def test_a_signal_to_launcher_and_training_alike_ends_in_a_checkpoint(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, signum: int, config: str
) -> None:
    """As Ctrl-C at the terminal does, and Slurm: the launcher ends, the training it started still saves and says so."""
    run = tmp_path / "run"
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file",
        config, str(ROOT / "scripts" / "train.py"), str(tiny_recipe), "--repo", str(project),
        "--model_name_or_path", str(tiny_models["llama"]), "--output_dir", str(run), "--max_steps", "400",
    ]  # fmt: skip
    launcher = subprocess.Popen(
        command, cwd=tmp_path, env=script_environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until((run / "checkpoint-4" / "trainer_state.json").exists)
        os.killpg(launcher.pid, signum)
        wait_until(lambda: manifest(run)["finished_at"] is not None)
        assert launcher.wait(timeout=60) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
    assert manifest(run)["status"] == "interrupted"
    assert max(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*")) > 4


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1800):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen within 90 seconds")


def test_full_fine_tuning_saves_a_whole_model(
    workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    arguments: list[str | Path] = [
        tiny_recipe,
        "--repo",
        project,
        "--model_name_or_path",
        tiny_models["gpt2"],
        "--use_peft",
        "false",
    ]
    done = run_script("train.py", *arguments, "--output_dir", "runs/full", cwd=workplace)
    assert done.returncode == 0, done.stderr
    run = workplace / "runs" / "full"
    assert (run / "model.safetensors").is_file()
    assert not (run / "adapter_config.json").exists()
    assert manifest(run)["exam"]["base"] != manifest(run)["exam"]["tuned"]


def test_eight_bit_trains(workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> None:
    arguments: list[str | Path] = [
        tiny_recipe,
        "--repo",
        project,
        "--model_name_or_path",
        tiny_models["phi"],
        "--load_in_8bit",
    ]
    done = run_script("train.py", *arguments, "--output_dir", "runs/eight", "--max_steps", "4", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert manifest(workplace / "runs" / "eight")["status"] == "complete"


def test_early_stopping_ends_a_run_that_no_longer_improves(
    workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    arguments: list[str | Path] = [
        tiny_recipe,
        "--repo",
        project,
        "--model_name_or_path",
        tiny_models["llama"],
        "--output_dir",
        "runs/early",
    ]
    arguments += ["--early_stopping_patience", "1", "--learning_rate", "0", "--exam", "false"]
    done = run_script("train.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    training = manifest(workplace / "runs" / "early")["training"]
    assert training["stopped_by"] == "early_stopping"
    assert training["steps"] == 8


@pytest.mark.parametrize(("flags", "processes"), [(["--config_file", DDP], 2), (["--cpu"], 1)])
def test_several_processes_give_one_manifest_and_one_adapter(
    tmp_path: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
    flags: list[str],
    processes: int,
) -> None:
    """Without a GPU accelerate's DDP means gloo; its `--cpu` starts one process whatever the number."""
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", *flags, "--num_processes", "2",
        str(ROOT / "scripts" / "train.py"), str(tiny_recipe), "--repo", str(project), "--output_dir", "runs/two",
        "--model_name_or_path", str(tiny_models["starcoder2"]), "--load_in_4bit",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=script_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    content = manifest(tmp_path / "runs" / "two")
    assert content["status"] == "complete"
    assert content["training"]["processes"] == processes
    answers = [json.loads(line) for line in (tmp_path / "runs" / "two" / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in answers] == [step for step in (0, 4, 8, 12) for _ in range(4)]
    assert len({(row["step"], row["item"]) for row in answers}) == 16
    assert done.stdout.count("later commits (") == 1, "one summary"
    assert len(list((tmp_path / "runs").rglob("adapter_model.safetensors"))) == 3, "the run's and two checkpoints'"
    assert len(list((tmp_path / "corpora").rglob("corpus.json"))) == 6, (
        "changes, verdicts, files, samples, and both splits encoded: each built once"
    )


@pytest.fixture(scope="session")
def alone(workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> Path:
    """One process that does what the tests below let two do: its steps have two parts, theirs one each."""
    arguments: list[str | Path] = [
        tiny_recipe,
        "--repo",
        project,
        "--model_name_or_path",
        tiny_models["llama"],
        *EPOCHS,
    ]
    run = workplace / "runs" / "alone"
    done = run_script("train.py", *arguments, "--gradient_accumulation_steps", "2", "--output_dir", run, cwd=workplace)
    assert done.returncode == 0, done.stderr
    return run


def assert_the_same_training(run: Path, alone: Path) -> None:
    """Equal losses at every step, within 1e-4, and equal adapters, within 1e-4 of each weight."""
    ours, theirs = (manifest(path)["training"] for path in (run, alone))
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    assert len(ours["loss_history"]) == len(theirs["loss_history"]) == 8
    for own, other in zip(ours["loss_history"], theirs["loss_history"], strict=True):
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-4), own["step"]
    assert ours["tokens_seen"] == theirs["tokens_seen"]
    adapter, expected = (load_file(path / "adapter_model.safetensors") for path in (run, alone))
    assert adapter.keys() == expected.keys()
    assert max(float((adapter[name] - expected[name]).abs().max()) for name in expected) < 1e-4


def launched(
    config: str, script: Path, recipe: Path, project: Path, model: Path, run: Path
) -> subprocess.CompletedProcess[str]:
    """Train with two processes to the end."""
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file", config, str(script), str(recipe),
        "--repo", str(project), "--model_name_or_path", str(model), "--output_dir", str(run), *EPOCHS,
    ]  # fmt: skip
    environment = script_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=run.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_train_as_one_does_and_resume_in_the_second_epoch_where_they_were(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, alone: Path
) -> None:
    """Accelerate's wrapping hides the sampler's epoch from the trainer then: epoch 1 would be read again."""
    run = tmp_path / "run"
    arguments = (DDP, ROOT / "scripts" / "train.py", tiny_recipe, project, tiny_models["llama"], run)
    launched(*arguments)
    assert_the_same_training(run, alone)
    expected, last = weights(run), run / "checkpoint-8"
    for gone in (last, run / "adapter_model.safetensors", run / "manifest.json"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    launched(*arguments)
    assert manifest(run)["training"]["resumed_from"] == 6
    assert weights(run) == expected


def test_a_model_split_over_two_processes_trains_as_a_whole_one_does(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, alone: Path
) -> None:
    """FSDP2 of a 4-bit model, its quantised weights too, and an exam that needs it whole."""
    run = tmp_path / "run"
    script = ROOT / "tests" / "support" / "sharded_on_cpu.py"
    done = launched(FSDP2, script, tiny_recipe, project, tiny_models["llama"], run)
    assert (run / "checkpoint-8" / "pytorch_model_fsdp.bin").is_file()
    assert "Excluding from FSDP2 sharding" not in done.stderr
    assert_the_same_training(run, alone)
    assert manifest(run)["exam"]["tuned"] == pytest.approx(manifest(alone)["exam"]["tuned"], rel=1e-4)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    workplace: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
    start: Callable[[list[str]], Running],
) -> None:
    """The kernel refuses larger files from the second checkpoint on, as a full disk does."""
    run = workplace / "runs" / "disk"
    arguments = [str(tiny_recipe), "--repo", str(project), "--model_name_or_path", str(tiny_models["llama"])]
    arguments += ["--output_dir", str(run), "--max_steps", "40"]
    running = start(arguments)
    running.wait_for(run / "checkpoint-4" / "trainer_state.json")
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    code, output = running.end()
    assert code == 2, output
    assert "error: the disk is full" in output
    assert "Traceback" not in output
    done = run_script("train.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert manifest(run)["training"]["resumed_from"] >= 4


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Assert one clear error with a hint, and return both."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("error: ")
    assert lines[-1].startswith("hint: ")
    return "\n".join(lines[-2:])


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
        done = run_script(
            "train.py", tiny_recipe, *model, "--repo", repo, "--output_dir", tmp_path / "run", *more, cwd=tmp_path
        )
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return refused(done)

    assert "does not exist" in train(tmp_path / "absent")
    assert "git clone" in train(tmp_path / "zip")
    assert "has no commits" in train(tmp_path / "unborn")
    assert "6 hunks of documentation" in train(prose.path)
    assert "3 commits with code to learn from are too few" in train(young.path)
    assert "`models/absent` does not exist" in train(project, "--model_name_or_path", "models/absent")
    assert "hf download nobody/nothing" in train(project, "--model_name_or_path", "nobody/nothing")
    assert "did you mean `learning_rate`" in train(project, "--learning_rat", "1")
    assert "more than the 1024 positions" in train(project, "--max_length", "4096")
    assert "does not have" in train(project, "--lora_target_modules", "c_attn")
    assert "no recipe given" in refused(run_script("train.py", cwd=tmp_path))
    assert "is not a complete run" in refused(run_script("evaluate.py", "nowhere", cwd=tmp_path))
    assert "round multiple" in train(project, "--load_best_model_at_end", "--eval_steps", "3")
    (tmp_path / "file").touch()
    assert "must be folders" in train(project, "--output_dir", str(tmp_path / "file"))


def test_a_run_directory_is_not_shared(trained: Path, workplace: Path, project: Path, tmp_path: Path) -> None:
    """Neither by another recipe nor by a later state of the repository."""
    other = run_script("train.py", trained / "recipe.yaml", "--seed", "9", cwd=workplace)
    assert "`seed` was 7, now 9" in refused(other)
    shutil.copytree(project, tmp_path / "project")
    shutil.copytree(trained, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(
        recipe.read_text()
        .replace(str(project), str(tmp_path / "project"))
        .replace("runs/whole", str(tmp_path / "run"))
    )
    repository = GitRepository.__new__(GitRepository)
    repository.path, repository.commits = tmp_path / "project", 50
    repository.commit("A later commit", {"src/late.py": "x = 1\n"})
    assert "was trained on commit" in refused(run_script("train.py", recipe, cwd=tmp_path))
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
