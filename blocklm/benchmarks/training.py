"""Compares our training with TRL's own `sft` script: the same model, adapter, token ids and tokens per step, in turn.

TRL's script pads each batch to its longest row: on samples of a real history, whose lengths have a long tail, half of
its work at its default batch of 8 is padding. Both recompute activations, which is TRL's default. One seed cannot show
which model is better, because a dozen steps depend on the samples they happen to hold: each round uses a new seed.
"""

import json
import math
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from trl import SFTConfig

from blocklm.benchmarks.processes import run_process
from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import build_corpus
from blocklm.corpus.prompt_templates import FAMILY, ModelPrompts
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import mine
from blocklm.models.pretrained import special_tokens
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.training.data_order import TrainingSamples, training_order
from blocklm.training.length_report import padding

RUNTIME = re.compile(r"'train_runtime': '?([\d.]+)")
SAMPLES, LENGTH, SEED = 96, 1024, 42
RECIPE = "recipes/quickstart.yaml"
# Ours writes no answers, as the script cannot. Two packed rows hold about eight samples, the script's default batch.
# The script's batch is chosen to give the same number of steps, so that tokens per step are the same.
OURS = ["--packing", "auto", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"]
OURS += ["--adapter_scales", "1", "--behavioral_items", "0"]
SHARED = ["--max_length", f"{LENGTH}", "--save_strategy", "no", "--eval_strategy", "no", "--logging_steps", "1"]
SHARED += ["--gradient_checkpointing", "true"]  # TRL's default, so that both spend the same time on it


@dataclass(frozen=True, slots=True)
class Arm:
    """Cost and result of one way of training; `bits` are bits per byte of later commits."""

    tokens: int
    steps: int
    seconds: float
    mebibytes: float
    padding_percent: float
    bits: float


def training_table(paths: Sequence[Path], rounds: int) -> Iterator[str]:
    """Yield the lines of a table, one repository after the other; each round trains both with a seed of its own."""
    for path in paths:
        yield f"{path.resolve().name}: {SAMPLES} samples, at most {LENGTH} tokens each"
        ratios, changes = [], []
        for seed in range(SEED, SEED + rounds):
            with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
                ours = _ours(path, Path(folder), seed)
                plain, against = _plain(Path(folder) / "ours", Path(folder) / "plain")
            for name, arm in (("BlockLM", ours), ("trl sft", plain)):
                yield (
                    f"{f'{name}, seed {seed}':18s} {arm.tokens:6d} tokens {arm.tokens / arm.seconds:5.0f} a second  {arm.steps:2d} steps  "
                    f"{arm.padding_percent:5.1f} % padding  peak {arm.mebibytes:6.0f} MiB  {arm.bits:.4f} bits per byte"
                )
            low, high = against["ci95"]
            ratios.append(ours.tokens / ours.seconds * plain.seconds / plain.tokens)
            changes.append(against["delta_percent"])
            yield f"{'ratio of tokens/s':18s} {ratios[-1]:6.2f}   ours in bits {changes[-1]:+.2f} % [{low:+.2f}, {high:+.2f}]"
        yield f"{'mean':18s} {statistics.fmean(ratios):6.2f}   ours in bits {statistics.fmean(changes):+.2f} %"


def _ours(repository: Path, folder: Path, seed: int) -> Arm:
    run = folder / "ours"
    arguments = [
        "--repo",
        f"{repository.resolve()}",
        "--output_dir",
        f"{run}",
        "--corpus_dir",
        f"{folder / 'corpora'}",
    ]
    arguments += ["--max_train_samples", f"{SAMPLES}", "--seed", f"{seed}", *SHARED, *OURS]
    done = run_process([sys.executable, "scripts/train.py", RECIPE, *arguments])
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    training, train = manifest["training"], manifest["corpus"]["splits"]["train"]
    full = train["utilisation"] or 1.0
    return Arm(
        tokens=train["tokens"],  # what the trainer counts leaves out the EOS of packed samples where that pads too
        steps=training["steps"],
        seconds=training["tokens_seen"] / training["tokens_per_second"],
        mebibytes=done.mebibytes,
        padding_percent=100 * (1 - full),
        bits=manifest["exam"]["tuned"]["bits_per_byte"],
    )


def _plain(run: Path, folder: Path) -> tuple[Arm, dict[str, Any]]:
    """Train TRL's script on the same rows, padded, and compare both models in the exam.

    Returns:
        The script's arm, and the change from it to ours.
    """
    recipe, manifest = (
        parse_recipe([str(run / "recipe.yaml")]),
        json.loads((run / "manifest.json").read_text(encoding="utf-8")),
    )
    lengths = _write_rows(run, folder / "rows")
    keys = [
        word
        for key in ("model_name_or_path", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
        for word in (f"--{key}", *map(str, _as_list(recipe.model[key])))
    ]
    keys += [
        word
        for key in ("learning_rate", "lr_scheduler_type", "warmup_steps", "seed")
        for word in (f"--{key}", f"{recipe.training[key]}")
    ]
    keys += ["--bf16", f"{manifest['plan']['precision']['bf16']}", "--use_cpu", f"{not torch.cuda.is_available()}"]
    command = [sys.executable, "-m", "trl.scripts.sft", "--dataset_name", f"{folder / 'rows'}", *keys, *SHARED]
    rows = math.ceil(len(lengths) / manifest["training"]["steps"])
    command += ["--per_device_train_batch_size", f"{rows}", "--gradient_accumulation_steps", "1"]
    command += ["--output_dir", f"{folder / 'out'}", "--num_train_epochs", "1", "--report_to", "none"]
    done = run_process(command)
    found = RUNTIME.search(done.output)
    assert found is not None, done.output
    shutil.copytree(run, folder / "run")
    for path in (folder / "out").glob("adapter_*"):
        shutil.copy(path, folder / "run")
    exam = [sys.executable, "scripts/evaluate.py", f"{run}", "--control", f"{folder / 'run'}"]
    run_process([*exam, "--exam_arms", "base", "tuned", "--exam_task_items", "0"])
    exam_again = json.loads((run / "exam-again.json").read_text(encoding="utf-8"))
    theirs: dict[str, Any] = exam_again["arms"][exam_again["controls"][0]["name"]]
    arm = Arm(
        tokens=sum(lengths),
        steps=math.ceil(len(lengths) / rows),
        seconds=float(found[1]),
        mebibytes=done.mebibytes,
        padding_percent=padding(lengths, rows),
        bits=theirs["bits_per_byte"],
    )
    return arm, theirs["tuned_against_it"]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _write_rows(run: Path, folder: Path) -> list[int]:
    """Write the token ids that our run read, one row per sample; return their lengths."""
    recipe, manifest = (
        parse_recipe([str(run / "recipe.yaml")]),
        json.loads((run / "manifest.json").read_text(encoding="utf-8")),
    )
    repositories = open_repositories(recipe.mining)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model["model_name_or_path"])
    families = {view: FAMILY[name] for view, name in manifest["corpus"]["prompts"].items()}
    changes = mine(repositories, recipe.mining)
    corpus = build_corpus(recipe, repositories, changes, ModelPrompts(families, special_tokens(tokenizer)))
    args = SFTConfig(
        output_dir=str(run),
        max_length=LENGTH,
        seed=recipe.training["seed"],
        num_train_epochs=1,
        use_cpu=True,
        bf16=False,
    )
    reading = training_order(
        TrainingSamples(corpus.splits["train"]),
        SampleEncoder(tokenizer, corpus.folder, corpus.places.fill, corpus.report["key"]),
        recipe.sampling,
        recipe.run,
        args,
    )
    folder.mkdir(parents=True)
    rows = [reading.dataset[at] for at in reading.order]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [len(row["input_ids"]) for row in rows]
