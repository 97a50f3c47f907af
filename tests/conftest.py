"""Real git repositories, real tiny models, real scripts: what the tests share."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.sampling import SamplingArguments, parse_sampling
from blocklm.corpus.build import Corpus, load_samples
from blocklm.corpus.curation import Curated
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.git.commits import Commit, read_commits
from blocklm.git.repository import Repository, open_repository
from blocklm.git.rev_list import list_commits
from blocklm.mining.changes import Changes, Rules, load_changes
from blocklm.mining.filters import FilterLimits
from tests.support.scripts import run_in_process
from tests.support.shared import build_once

ROOT = Path(__file__).parent.parent
# One thread for each of the two workers and for every script that they start, because more threads wait for each other
# ten times as long. This comes before torch is imported, which reads the variables once.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
Files = Mapping[str, str | bytes | None]

# Random models of the architectures we ship recipes for, small enough to train in seconds. Widths are multiples of 64,
# the block that bitsandbytes quantises.
SIZES: dict[str, dict[str, Any]] = {
    "starcoder2": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024,
    },
    "phi": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 1024,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024},
    "llama": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024,
    },
}  # fmt: skip
# Phi-2 adds runs of whitespace to its vocabulary; they are text like any other.
WHITESPACE_TOKENS = ["  ", "    ", "\t\t"]
STARCODER2_TOKENS = [
    "<repo_name>", "<file_sep>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<pr>", "<pr_diff>", "<pr_file>",
    "<pr_diff_hunk>", "<pr_review_comment>",
]  # fmt: skip


class GitRepository:
    """A test repository, whose commits have fixed authors and are a minute apart."""

    def __init__(self, path: Path, commits: int = 0) -> None:
        """Create a repository, or continue one that has `commits` commits."""
        self.path = path
        self.commits = commits
        if commits == 0:
            path.mkdir(parents=True)
            self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        """Run git without this machine's configuration."""
        time = f"@{1_700_000_000 + 60 * self.commits} +0000"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada Lovelace",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada Lovelace",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
            "GIT_AUTHOR_DATE": time,
            "GIT_COMMITTER_DATE": time,
        }
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def commit(self, message: str, files: Files) -> str:
        """Write or delete (`None`) files, commit them, return the sha."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.commits += 1
        return self._head()

    def merge(self, branch: str) -> str:
        """Merge a branch with a merge commit, return the sha."""
        self.git("merge", "--quiet", "--no-ff", "--message", f"Merge {branch}", branch)
        self.commits += 1
        return self._head()

    def _head(self) -> str:
        """Read the newest commit without starting git, because the tests make thousands of commits."""
        name = (self.path / ".git" / "HEAD").read_text().strip().removeprefix("ref: ")
        reference = self.path / ".git" / name
        return reference.read_text().strip() if reference.is_file() else name


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    """Create an empty repository with a given name."""
    return lambda name: GitRepository(tmp_path / name)


def function(number: int, body: str = "") -> str:
    """Make a small function that differs by number."""
    return f'def step_{number}(value):\n    """Return step {number} of value."""\n    {body or f"return value * {number} + {number % 3}"}\n\n\n'


def history_of(path: Path) -> list[Commit]:
    """Every commit of a repository, as BlockLM reads it."""
    repository = open_repository(path, path.parent / "clones")
    return list(read_commits(repository, list_commits(repository)))


def changes_of(path: Path, corpora: Path, **rules: Any) -> Changes:
    """The changes dataset of a repository, mined now or read from `corpora`."""
    limits = rules.pop("limits", FilterLimits(max_changed_lines=1000))
    return load_changes(open_repository(path, corpora / "clones"), Rules(limits, **rules), corpora)


def rendered(
    changes: Changes,
    curated: Curated,
    corpora: Path,
    special: frozenset[str] = frozenset(),
    repositories: Sequence[Repository] = (),
    **sampling: Any,
) -> Corpus:
    """The samples of a history without its files, in the edit view unless `views` says otherwise.

    Prompts at places can be built if the history's `repositories` are given.
    """
    given: dict[str, Any] = {"views": {"edit": 1}, "survival": False, "recency": "off"} | sampling
    settings = parse_sampling(SamplingArguments(**given))
    families = prompts_for(special, settings.template)
    prompts = ModelPrompts({view: families[view] for view in settings.shares}, special)
    places = PlaceReader(changes.dataset, repositories, changes.known, prompts)
    return load_samples(changes, curated, None, settings, places, corpora)


def _project(folder: Path) -> None:
    repository = GitRepository(folder / "project")
    module = ""
    for number in range(24):
        module += function(number)
        repository.commit(f"Add step {number}\n\nSigned-off-by: Ada <ada@example.org>", {"src/steps.py": module})
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("Add the side door, thanks @grace", {"src/side.py": function(100)})
    repository.git("checkout", "--quiet", "main")
    repository.commit(
        "Lock, data and pictures", {"uv.lock": "version = 1\n", "a.png": b"\x89PNG\0\1", "README.md": "# Hi\n"}
    )
    repository.merge("side")
    repository.commit("Copy a library in", {"vendor/lib.py": function(7), "big.py": "x = 1\n" * 3000})
    repository.commit("Generate", {"src/gen.py": "# @generated by protoc\n" + function(8)})
    for number in range(24, 30):
        module = module.replace(f"* {number - 20} +", f"* {number} -") + function(number)
        repository.commit(f"Rework step {number}", {"src/steps.py": module})


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty commits of a small Python package, with what real histories also hold; never changed by a test."""
    return build_once(tmp_path_factory, "repositories", _project) / "project"


def _tokenizer(folder: Path, special: list[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([function(number) for number in range(50)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    if folder.name == "phi":
        fast.add_tokens(WHITESPACE_TOKENS)
    fast.save_pretrained(folder)


def _models(folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for name, size in SIZES.items():
        _tokenizer(folder / name, STARCODER2_TOKENS if name == "starcoder2" else [])
        torch.manual_seed(0)
        config = AutoConfig.for_model(name, vocab_size=410, bos_token_id=0, eos_token_id=0, pad_token_id=0, **size)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory per architecture, written by `save_pretrained`."""
    folder = build_once(tmp_path_factory, "models", _models)
    return {name: folder / name for name in SIZES}


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of twelve steps for any tiny model, with a checkpoint and an evaluation every four."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(
        "use_peft: true\nlora_r: 4\nlora_dropout: 0.1\nmax_length: 512\nmax_steps: 12\nlearning_rate: 1.0e-2\n"
        "per_device_train_batch_size: 2\ngradient_checkpointing: true\neval_strategy: steps\neval_steps: 4\n"
        "save_strategy: steps\nsave_steps: 4\nlogging_steps: 1\nmax_validation_samples: 4\nexam_items: 12\n"
        "exam_arms: [base, tuned]\nexam_task_items: 0\n"
        "seed: 7\nbf16: false\nbehavioral_items: 4\nbehavioral_max_new_tokens: 48\n"
    )
    return path


def _lamps(folder: Path) -> None:
    repository = GitRepository(folder / "house")
    module = ""
    for number in range(24):
        module += function(number)
        if number == 3:
            repository.commit("Hang a place for lamps", {"src/lamps.py": "LAMPS = [\n]\n"})
        elif number == 4:
            table = "LAMPS = [\n" + "    lantern, lantern, lantern,\n" * 12 + "]\n"
            repository.commit("Light every lamp of the house", {"src/lamps.py": table})
        else:
            repository.commit(f"Add step {number}", {"src/steps.py": module})


@pytest.fixture(scope="session")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    """Two dozen steps, and a commit whose lines resemble no other; never changed by a test."""
    return GitRepository(build_once(tmp_path_factory, "lamps", _lamps) / "house", commits=24)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, lamps: GitRepository, tiny_models: dict[str, Path]) -> Path:
    """A run that memorised `lamps` in four views.

    Its embeddings and head are trained too, because the tiny base knows nothing.
    """
    keys = {
        "model_name_or_path": tiny_models["llama"], "use_peft": "true", "lora_r": "32", "bf16": "false",
        "lora_modules_to_save": "[embed_tokens, lm_head]", "views": "{edit: 0.5, completion: 0.25, next_edit: 0.1, message: 0.15}",
        "boost": "{src/lamps.py: 6}", "max_length": "512", "max_steps": "300", "learning_rate": "5e-3",
        "per_device_train_batch_size": "2", "eval_strategy": "'no'", "save_strategy": "'no'", "behavioral_items": "0",
        "exam": "false", "hardware_interval": "0", "seed": "7",
    }  # fmt: skip

    def train(place: Path) -> None:
        recipe = place / "recipe.yaml"
        recipe.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
        done = run_in_process("train.py", recipe, "--repo", lamps.path, "--output_dir", "run", cwd=place)
        assert done.returncode == 0, done.stderr

    return build_once(tmp_path_factory, "taught", train) / "run"
