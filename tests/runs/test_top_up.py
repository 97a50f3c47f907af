"""A month later: a run continues an earlier one with the new commits, and keeps the better result."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from trl import ModelConfig

from blocklm.config.mining import MiningArguments
from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import curate
from blocklm.corpus.new_samples import TopUp, teaching_commits, top_up
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.models.adapter import check_same_model, previous_arm
from blocklm.models.loaded import LoadedModel
from blocklm.models.loading import load_base, load_tuned
from blocklm.models.precision import choose_precision
from blocklm.models.pretrained import load_tokenizer, model_config
from blocklm.runs import top_up as top_up_files
from blocklm.runs.top_up import Previous, learned_commits, previous_run, roll_back
from tests.conftest import GitRepository, changes_of, function, rendered
from tests.support.runs import manifest, weights
from tests.support.scripts import Running, run_in_process


def copy_of(project: Path, folder: Path) -> GitRepository:
    shutil.copytree(project, folder)
    return GitRepository(folder, commits=50)


def grow(repository: GitRepository, numbers: range) -> list[str]:
    """Add the commits that others make meanwhile, each with a function in a new file."""
    module, found = "", []
    for number in numbers:
        module += function(number, f"return sorted([value, {number}])[{number % 2}]")
        found.append(repository.commit(f"Add helper {number}", {f"src/new{numbers[0]}.py": module}))
    return found


class Place:
    """A user's folder with a repository that gets new commits."""

    def __init__(self, folder: Path, recipe: Path, model: Path, project: Path) -> None:
        self.folder, self.recipe, self.model = folder, recipe, model
        self.repository = copy_of(project, folder / "project")

    def command(self, run: str, *more: str) -> list[str]:
        keys = [
            "--repo",
            "project",
            "--model_name_or_path",
            str(self.model),
            "--load_in_4bit",
            "--adapter_scales",
            "1",
        ]
        return [str(self.recipe), *keys, "--output_dir", f"runs/{run}", *more]

    def train(self, run: str, *more: str) -> tuple[Path, str]:
        done = run_in_process("train.py", *self.command(run, *more), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return self.folder / "runs" / run, done.stdout

    def kill_after_the_first_checkpoint(self, run: str, *more: str) -> None:
        running = Running(self.command(run, *more), self.folder)
        running.wait_for(self.folder / "runs" / run / "checkpoint-4" / "trainer_state.json")
        running.signal(signal.SIGKILL)
        assert running.end()[0] == -signal.SIGKILL


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> Place:
    """A folder with a first run, and 24 commits that were pulled afterwards."""
    place = Place(tmp_path_factory.mktemp("place"), tiny_recipe, tiny_models["starcoder2"], project)
    place.train("a")
    grow(place.repository, range(200, 224))
    return place


@pytest.fixture(scope="module")
def worse(place: Place) -> Path:
    """A top-up at an absurd learning rate."""
    return place.train("worse", "--continue_from", "runs/a", "--learning_rate", "1")[0]


def test_a_top_up_that_is_worse_leaves_the_previous_adapter(place: Place, worse: Path) -> None:
    first, content = place.folder / "runs" / "a", manifest(worse)
    assert content["status"] == "complete"
    assert content["training"]["rolled_back"] is True
    against = content["exam"]["against_previous"]
    assert (against["verdict"], against["ci95"][0] > 0) == ("worse", True)
    ratio = content["exam"]["tuned"]["bits_per_byte"] / content["exam"]["previous"]["bits_per_byte"]
    assert against["delta_percent"] == pytest.approx(100 * (ratio - 1))
    assert weights(worse) == weights(first)
    assert weights(worse / "rejected") != weights(first)
    assert learned_commits(worse) == learned_commits(first) < learned_commits(worse / "rejected")
    recorded = {artifact["path"]: artifact["sha256"] for artifact in content["artifacts"]}
    kept = {artifact["path"]: artifact["sha256"] for artifact in manifest(first)["artifacts"]}
    assert recorded["adapter_model.safetensors"] == kept["adapter_model.safetensors"]
    card = (worse / "README.md").read_text()
    assert f"head `{manifest(first)['repository']['head'][:12]}`" in card
    assert 'from_pretrained("runs/worse")' in card
    assert "A top-up that was not kept" in card
    again = run_in_process("train.py", worse / "recipe.yaml", cwd=place.folder)
    assert "rolled back: this top-up is worse than `runs/a`" in again.stdout


def test_a_top_up_reads_the_new_samples_and_its_share_of_replay(place: Place, worse: Path) -> None:
    content = manifest(worse)
    earlier = learned_commits(place.folder / "runs" / "a")
    onward = content["training"]["continued_from"]
    assert onward["head"] == manifest(place.folder / "runs" / "a")["repository"]["head"]
    assert onward["learned_commits"] == len(earlier)
    assert onward["new_commits"] == content["corpus"]["splits"]["train"]["commits"] - len(earlier)
    assert content["corpus"]["splits"]["train"]["replay_share"] == pytest.approx(0.3, abs=0.01)
    asked = {item["commit"] for item in json.loads((worse / "exam.json").read_text())["per_item"]}
    assert not asked & learned_commits(worse / "rejected")


def test_a_killed_top_up_resumes_to_the_same_adapter_and_the_same_verdict(place: Place, worse: Path) -> None:
    more = ("--continue_from", "runs/a", "--learning_rate", "1")
    place.kill_after_the_first_checkpoint("killed", *more)
    run, _ = place.train("killed", *more)
    assert manifest(run)["training"]["resumed_from"] >= 4
    assert weights(run / "rejected") == weights(worse / "rejected")
    assert weights(run) == weights(worse)
    # Killed again after the verdict, before the adapter changed places: the verdict stands without another exam.
    shutil.copy2(run / "rejected" / "adapter_model.safetensors", run)
    shutil.rmtree(run / "rejected")
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "interrupted", "artifacts": []}))
    (run / "exam.json").unlink()
    place.train("killed", *more)
    assert weights(run) == weights(worse)
    assert weights(run / "rejected") == weights(worse / "rejected")
    assert manifest(run)["exam"]["against_previous"] == manifest(worse)["exam"]["against_previous"]
    assert not (run / "exam.json").exists()


def test_the_next_top_up_starts_from_the_exact_result_of_the_last(place: Place, worse: Path) -> None:
    """This holds after a rollback, and on a quantised base, whose adapter the trainer would round to bf16."""
    run, shown = place.train("c", "--continue_from", "runs/worse", "--learning_rate", "0", "--replay_share", "0")
    assert weights(run) == weights(place.folder / "runs" / "a")
    content = manifest(run)
    assert content["training"]["rolled_back"] is False
    assert content["exam"]["previous"] == pytest.approx(content["exam"]["tuned"])
    assert content["corpus"]["splits"]["train"]["replay_share"] == 0
    assert re.search(r"previous +\d\.\d+ .*\+0\.0", shown)
    assert learned_commits(run) == learned_commits(worse / "rejected")
    nothing = run_in_process("train.py", *place.command("d", "--continue_from", "runs/c"), cwd=place.folder)
    assert nothing.returncode == 2
    assert f"error: nothing new to learn since commit {content['repository']['head'][:12]}" in nothing.stderr


def test_an_earlier_run_can_be_examined_on_newer_commits(place: Place) -> None:
    first = place.folder / "runs" / "a"
    then = set(place.repository.git("rev-list", manifest(first)["repository"]["head"]).split())
    done = run_in_process("evaluate.py", first, "--new_commits", "--quick", cwd=place.folder)
    assert done.returncode == 0, done.stderr
    asked = {item["commit"] for item in json.loads((first / "exam-again.json").read_text())["per_item"]}
    assert asked
    assert not asked & then


def test_a_run_to_continue_from_is_complete(place: Place, worse: Path, tmp_path: Path) -> None:
    config = model_config(parse_recipe([str(worse / "recipe.yaml")]).model)
    with pytest.raises(UserError, match="is not a complete run"):
        previous_run(str(tmp_path), config)
    shutil.copytree(worse, tmp_path / "run")
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"the adapter of .* is gone"):
        previous_run(str(tmp_path / "run"), config)
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest(worse) | {"status": "interrupted"}))
    with pytest.raises(UserError, match="is not a complete run"):
        previous_run(str(tmp_path / "run"), config)


@pytest.mark.parametrize(
    "changed", [{"lora_r": 8}, {"lora_target_modules": ["q_proj"]}, {"model_name_or_path": "b"}, {"use_peft": False}]
)
def test_another_model_or_adapter_shape_is_refused_by_its_key(changed: dict[str, Any], tmp_path: Path) -> None:
    keys: dict[str, Any] = {"model_name_or_path": str(tmp_path), "use_peft": True, "lora_target_modules": ["q", "v"]}
    check_same_model(ModelConfig(**keys, attn_implementation="eager"), ModelConfig(**keys), tmp_path)
    check_same_model(
        ModelConfig(**keys), ModelConfig(**keys | {"model_name_or_path": f"{tmp_path}/../{tmp_path.name}"}), tmp_path
    )
    with pytest.raises(UserError, match=f"`{next(iter(changed))}` is"):
        check_same_model(ModelConfig(**keys | changed), ModelConfig(**keys), tmp_path)


class Past:
    """A previous run as its history was then, and the history as it is now."""

    def __init__(self, repository: GitRepository, folder: Path, recipe: Recipe) -> None:
        self.repository, self.corpora, self.recipe = repository, folder / "corpora", recipe
        _, corpus, learned = self.now()
        self.taught = frozenset(corpus.splits["train"]["commit"][:])
        self.previous = Previous(folder / "run", recipe, {"repository": {"head": "a" * 40}}, learned)

    def now(self, test_commits: int | None = None) -> tuple[Changes, Corpus, frozenset[str]]:
        changes = changes_of(self.repository.path, self.corpora)
        curated = curate(changes, MiningArguments(corpus_dir=str(self.corpora), test_commits=test_commits))
        corpus = rendered(changes, curated, self.corpora)
        return changes, corpus, teaching_commits(changes.dataset, curated.verdicts)

    def top_up(self, test_commits: int | None = None) -> tuple[TopUp, Corpus]:
        changes, corpus, _ = self.now(test_commits)
        return top_up(self.previous.history, changes.dataset, corpus.splits, self.recipe), corpus


@pytest.fixture
def past(project: Path, tmp_path: Path, tiny_recipe: Path) -> Past:
    recipe = parse_recipe([str(tiny_recipe), "--model_name_or_path", "any", "--exam_view", "edit"])
    return Past(copy_of(project, tmp_path / "project"), tmp_path, recipe)


def test_samples_that_the_previous_run_held_out_are_new(past: Past) -> None:
    held_out = set(past.now()[1].splits["test"]["commit"][:])
    pulled = grow(past.repository, range(300, 340))
    found, corpus = past.top_up()
    commits = np.array(corpus.splits["train"]["commit"][:])
    assert past.taught <= past.previous.learned
    assert not set(commits[found.new]) & past.previous.learned
    assert set(commits[~found.new]) <= past.previous.learned
    assert held_out <= set(commits[found.new])
    assert set(found.splits["test"]["commit"][:]) <= set(pulled)
    assert (found.report["rewritten_commits"], found.report["not_asked_commits"]) == (0, 0)


def test_a_rewritten_end_of_history_is_recognised_by_commit_ids(past: Past) -> None:
    past.repository.git("reset", "--quiet", "--hard", "HEAD~16")
    grow(past.repository, range(300, 340))
    found, corpus = past.top_up()
    commits = np.array(corpus.splits["train"]["commit"][:])
    assert 0 < found.report["rewritten_commits"] < len(past.previous.learned)
    assert 0 < found.new.sum() < len(found.new)
    assert set(commits[~found.new]) <= past.previous.learned


def test_another_history_is_refused(past: Past, tmp_path: Path) -> None:
    past.repository = GitRepository(tmp_path / "other")
    grow(past.repository, range(300, 340))
    with pytest.raises(UserError, match=r"none of the \d+ commits that .* learned is in this history"):
        past.top_up()


def test_the_exam_of_a_top_up_has_no_learned_commit(project: Path, tmp_path: Path, tiny_recipe: Path) -> None:
    """A branch that was learned before it was merged lands with its merge, among the newest commits."""
    repository = copy_of(project, tmp_path / "project")
    repository.git("checkout", "--quiet", "-b", "feature", "HEAD~20")
    grow(repository, range(300, 340))
    past = Past(
        repository, tmp_path, parse_recipe([str(tiny_recipe), "--model_name_or_path", "any", "--exam_view", "edit"])
    )
    repository.git("checkout", "--quiet", "main")
    grow(repository, range(400, 460))
    repository.merge("feature")
    found, corpus = past.top_up()
    learned = past.previous.learned
    for name in ("validation", "test"):
        kept = [commit for commit in corpus.splits[name]["commit"][:] if commit not in learned]
        assert found.splits[name]["commit"][:] == kept != corpus.splits[name]["commit"][:]
    assert found.report["not_asked_commits"] == 14
    past.previous = replace(past.previous, learned=learned | set(corpus.splits["test"]["commit"][:]))
    with pytest.raises(UserError, match="learned all commits of test: nothing is left to ask"):
        past.top_up()


def test_without_new_commits_a_top_up_is_refused(past: Past) -> None:
    with pytest.raises(UserError, match="nothing new to learn since commit aaaaaaaaaaaa"):
        past.top_up()


def test_a_rollback_that_is_killed_anywhere_ends_the_same_when_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(folder: Path, content: str) -> Path:
        folder.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors", "learned.txt"):
            (folder / name).write_text(content)
        return folder

    def state(run: Path) -> dict[str, str]:
        return {str(path.relative_to(run)): path.read_text() for path in sorted(run.rglob("*")) if path.is_file()}

    previous = made(tmp_path / "previous", "old")
    names = sorted(state(previous))
    copy = shutil.copy2
    for allowed in range(7):
        run = made(tmp_path / f"run{allowed}", "new")
        left = iter(range(allowed))

        def copy_until_killed(source: Path, target: Path, left: Any = left) -> None:
            if next(left, None) is None:
                target.write_text("torn")
                raise KeyboardInterrupt
            copy(source, target)

        monkeypatch.setattr(shutil, "copy2", copy_until_killed)
        if allowed < 6:
            with pytest.raises(KeyboardInterrupt):
                roll_back(run, previous)
            assert all((run / name).read_text() in ("old", "new") for name in names), "each file is one or the other"
        monkeypatch.setattr(shutil, "copy2", copy)
        roll_back(run, previous)
        assert state(run) == {name: "old" for name in names} | {f"rejected/{name}": "new" for name in names}
    assert state(previous) == dict.fromkeys(names, "old")


def test_the_best_checkpoint_of_a_rejected_result_is_moved_with_it(tmp_path: Path) -> None:
    for run in ("run", "previous"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "adapter_model.safetensors").write_text(run)
    (tmp_path / "run" / "best").mkdir()
    roll_back(tmp_path / "run", tmp_path / "previous")
    assert (tmp_path / "run" / "rejected" / "best").is_dir()
    assert not (tmp_path / "run" / "best").exists()


def test_a_full_model_is_topped_up_from_all_its_weights(
    tiny_models: dict[str, Path], tiny_recipe: Path, tmp_path: Path
) -> None:
    """Its start and its arm in the exam are what the run saved; the present weights stay as they are."""
    keys = ["--model_name_or_path", str(tiny_models["gpt2"]), "--use_peft", "false", "--output_dir", "runs/a"]
    first = parse_recipe([str(tiny_recipe), *keys])
    fp32 = choose_precision(None, False)
    saved = load_base(model_config(first.model), fp32)
    with torch.no_grad():
        saved.lm_head.weight += 1
    run = tmp_path / "run"
    saved.save_pretrained(run)
    (run / "manifest.json").write_text(json.dumps({"status": "complete"}))
    (run / "recipe.yaml").write_text(yaml.safe_dump(first.resolved()))
    top_up_files.write_learned(run, ["a" * 40])
    recipe = parse_recipe([str(tiny_recipe), *keys, "--continue_from", str(run)])
    config = model_config(recipe.model)
    before = previous_run(str(recipe.run.continue_from), config)
    started = load_tuned(config, fp32, before.path)
    assert torch.equal(started.lm_head.weight, saved.lm_head.weight)
    with torch.no_grad():
        started.lm_head.weight += 1
    loaded = LoadedModel(started, load_tokenizer(config), torch.float32)
    with previous_arm(loaded, before.path, lambda: load_tuned(config, fp32, before.path)) as previous:
        assert torch.equal(previous.model.lm_head.weight, saved.lm_head.weight)
    assert torch.equal(started.lm_head.weight, saved.lm_head.weight + 1)
