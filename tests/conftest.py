"""Real git repositories, real tiny models, real scripts: what the tests share."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from blocklm.config.sampling import SamplingArguments, checked
from blocklm.corpus.build import Corpus, load_samples
from blocklm.corpus.curation import Curated
from blocklm.corpus.prompt_templates import prompts_for
from blocklm.git.commits import Commit, read_commits
from blocklm.git.repository import open_repository
from blocklm.git.rev_list import list_commits
from blocklm.mining.changes import Changes, Rules, load_changes
from blocklm.mining.filters import Limits

if TYPE_CHECKING:
    from trl import SFTTrainer

    from blocklm.interrupts import Interrupts

ROOT = Path(__file__).parent.parent
# One thread for each of the two workers and for every script they start: more wait for each other, ten times as long. Before
# torch is imported, which reads them once.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
Files = Mapping[str, str | bytes | None]

# Random models of the architectures we ship recipes for, small enough to train in seconds. Widths are multiples of 64, the
# block that bitsandbytes quantises.
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
    """A repository under construction: commits get fixed authors and times a minute apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = 0
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        """Run git with nothing of this machine's configuration."""
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
        return self.git("rev-parse", "HEAD").strip()

    def merge(self, branch: str) -> str:
        """Merge a branch with a merge commit, return the sha."""
        self.git("merge", "--quiet", "--no-ff", "--message", f"Merge {branch}", branch)
        self.commits += 1
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    """Build a repository under a name of its own."""
    return lambda name: GitRepository(tmp_path / name)


def function(number: int, body: str = "") -> str:
    """A small function, a little different each time."""
    return f'def step_{number}(value):\n    """Return step {number} of value."""\n    {body or f"return value * {number} + {number % 3}"}\n\n\n'


def history_of(path: Path) -> list[Commit]:
    """Every commit of a repository, as BlockLM reads it."""
    repository = open_repository(path, path.parent / "clones")
    return list(read_commits(repository, list_commits(repository)))


def changes_of(path: Path, corpora: Path, **rules: Any) -> Changes:
    """The changes dataset of a repository, mined now or read from `corpora`."""
    limits = rules.pop("limits", Limits(max_changed_lines=1000))
    return load_changes(open_repository(path, corpora / "clones"), Rules(limits, **rules), corpora)


def rendered(
    changes: Changes, curated: Curated, corpora: Path, special: frozenset[str] = frozenset(), **sampling: Any
) -> Corpus:
    """The samples of a history without its files, in the edit view unless `views` says otherwise."""
    given: dict[str, Any] = {"views": {"edit": 1}, "survival": False, "recency": "off"} | sampling
    settings = checked(SamplingArguments(**given))
    families = prompts_for(special, settings.template)
    prompts = {view: families[view] for view in settings.shares}
    return load_samples(changes, curated, None, settings, prompts, special, corpora)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty commits of a small Python package, with what real histories also hold; never changed by a test."""
    repository = GitRepository(tmp_path_factory.mktemp("repositories") / "project")
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
    return repository.path


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


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory per architecture, as `save_pretrained` leaves it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    root = tmp_path_factory.mktemp("models")
    for name, size in SIZES.items():
        _tokenizer(root / name, STARCODER2_TOKENS if name == "starcoder2" else [])
        torch.manual_seed(0)
        config = AutoConfig.for_model(name, vocab_size=410, bos_token_id=0, eos_token_id=0, pad_token_id=0, **size)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
    return {name: root / name for name in SIZES}


def tiny_trainer(model: Path, run: Path, keys: dict[str, Any], interrupts: "Interrupts | None" = None) -> "SFTTrainer":
    """A trainer in this process, with dropout and accumulation unless `keys` of a recipe say otherwise.

    It reads 64 samples and is evaluated on 8 every two steps; they are best after step 12 of the tiny Llama.
    """
    import yaml
    from datasets import Dataset

    from blocklm.config.recipe import parse_recipe
    from blocklm.interrupts import Interrupts
    from blocklm.models.loading import load_base, load_tokenizer, model_config
    from blocklm.models.precision import choose_precision
    from blocklm.training.data_order import ReadingList
    from blocklm.training.train import build_trainer, sft_config

    given: dict[str, Any] = {
        "model_name_or_path": str(model), "output_dir": str(run), "use_peft": True, "lora_r": 4, "lora_dropout": 0.1,
        "max_length": 128, "max_steps": 12, "learning_rate": 0.01, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 4,
        "logging_steps": 3, "bf16": False, "seed": 7,
    }  # fmt: skip
    path = run.with_name(f"{run.name}.yaml")
    path.write_text(yaml.safe_dump(given | keys))
    recipe = parse_recipe([str(path)])
    config = model_config(recipe.model)
    tokenizer = load_tokenizer(config)
    rows = [tokenizer(function(number))["input_ids"] for number in range(72)]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": rows})
    precision = choose_precision(None, False)
    args = sft_config(recipe, precision)
    epochs = 1.0 if args.max_steps > 0 else args.num_train_epochs
    order = [at % 64 for at in range(int(64 * epochs))]
    reading = ReadingList(dataset.select(range(64)), order, 64, {})
    base = load_base(config, precision)
    validation = dataset.select(range(64, 72))
    wishes = Interrupts() if interrupts is None else interrupts
    return build_trainer(recipe, args, base, tokenizer, reading, validation, wishes, precision)


def run_script(name: str, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of our scripts as a user does, from another folder, offline."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        cwd=cwd,
        env=script_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def script_module(name: str) -> Any:
    """One of our scripts as a module, for its `command_line`."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), ROOT / "scripts" / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script_environment() -> dict[str, str]:
    """The environment of a script under test: no hub, no inherited git."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "ACCELERATE_"))}
    return kept | {"HF_HUB_OFFLINE": "1"}


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


@pytest.fixture(scope="session")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    """Two dozen steps, and a commit that adds lines like no other; never changed by a test."""
    repository = GitRepository(tmp_path_factory.mktemp("lamps") / "house")
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
    return repository


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, lamps: GitRepository, tiny_models: dict[str, Path]) -> Path:
    """A run that knows `lamps` by heart, in four views; its embeddings and head are trained too, as the tiny base knows nothing."""
    place = tmp_path_factory.mktemp("taught")
    keys = {
        "model_name_or_path": tiny_models["llama"], "use_peft": "true", "lora_r": "32", "bf16": "false",
        "lora_modules_to_save": "[embed_tokens, lm_head]", "views": "{edit: 0.3, fim: 0.3, next_line: 0.2, message: 0.2}",
        "boost": "{src/lamps.py: 6}", "max_length": "512", "max_steps": "300", "learning_rate": "5e-3",
        "per_device_train_batch_size": "2", "eval_strategy": "'no'", "save_strategy": "'no'", "behavioral_items": "0",
        "exam": "false", "hardware_interval": "0", "seed": "7",
    }  # fmt: skip
    recipe = place / "recipe.yaml"
    recipe.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    done = run_script("train.py", recipe, "--repo", lamps.path, "--output_dir", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "run"
