"""Measures a training step, a batch of the exam and answers of the quickstart's model, each against a plain way.

Each arm runs in a process of its own, so that its peak memory is its own, and rounds are interleaved. A training step
is also compared with the plain matrix products of its layers, in the same process and dtype: what it would take if
nothing but these products cost time.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from blocklm.benchmarks.processes import run_process
from blocklm.config.recipe import parse_recipe
from blocklm.models import cpu_threads, likelihood
from blocklm.models.adapter import lora_config
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.models.precision import spare_conversions
from blocklm.models.source import ModelSource
from blocklm.models.tokenization.encode import Encoded
from blocklm.training.fused_head import labelled_positions_only

RECIPE = "recipes/quickstart.yaml"
ROWS, LENGTH = 2, 256
PROMPT_SHARE = 0.7  # of a row; the rest is trained on or scored
ANSWERS, ANSWER_TOKENS = 8, 32
REPEATS = 3  # of the measured work, after one to warm up
SEED = 0

# What an arm does, each over the one before it.
POSITIONS, CONVERTED, APART = "logits where there is loss", "no needless conversions", "a row on each core"
CASES = {
    "training step": ("plain", POSITIONS, CONVERTED),
    "exam batch": ("plain", POSITIONS, CONVERTED, APART),
    "answers": ("plain", CONVERTED),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Median cost of a piece of work: seconds, page faults, peak MiB of the process, and seconds of plain products."""

    seconds: float
    faults: float
    mebibytes: float
    product_seconds: float | None


def model_table(rounds: int) -> Iterator[str]:
    """Yield the lines of a table; ratios are to the plain arm of the same case."""
    yield f"{RECIPE}: {ROWS} rows of {LENGTH} tokens, {ANSWERS} answers of {ANSWER_TOKENS}, median of {rounds} rounds"
    yield f"  {'':44s} {'seconds':>8s} {'/ plain':>8s} {'faults':>9s} {'MiB':>6s} {'of peak':>8s}"
    for case, arms in CASES.items():
        runs: dict[str, list[Cost]] = {arm: [] for arm in arms}
        for _ in range(rounds):
            for arm, costs in runs.items():
                output = run_process([sys.executable, "-m", "blocklm.benchmarks.model", case, arm]).output
                costs.append(Cost(**json.loads(output.splitlines()[-1])))
        plain = statistics.median(cost.seconds for cost in runs["plain"])
        for arm, costs in runs.items():
            seconds = statistics.median(cost.seconds for cost in costs)
            products = [cost.product_seconds for cost in costs if cost.product_seconds is not None]
            share = f"{100 * statistics.median(products) / seconds:6.0f} %" if products else ""
            yield (
                f"  {f'{case}, {arm}':44s} {seconds:8.2f} {seconds / plain:8.2f} "
                f"{statistics.median(cost.faults for cost in costs):9,.0f} "
                f"{max(cost.mebibytes for cost in costs):6.0f} {share:>8s}"
            )


def measure(case: str, arm: str) -> Cost:
    """Measure one arm of a case in this process."""
    arms = CASES[case]
    taken = arms[: arms.index(arm) + 1]
    loaded = _adapted()
    if APART not in taken:
        cpu_threads.ROWS_AT_ONCE = 1
    if CONVERTED in taken:
        spare_conversions(loaded.model, loaded.dtype)
    work = {"training step": _training_step, "exam batch": _exam_batch, "answers": _answers}[case]
    run = work(loaded, POSITIONS in taken)
    run()
    seconds, before = [], _faults()
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    faults, peak = (_faults() - before) / REPEATS, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    products = _product_seconds(loaded) if case == "training step" else None
    return Cost(statistics.median(seconds), faults, peak, products)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _adapted() -> LoadedModel:
    recipe = parse_recipe([RECIPE])
    source = ModelSource.from_keys(recipe.model, recipe.training)
    torch.manual_seed(SEED)
    base = source.base()
    lora = lora_config(base, source.config)
    assert lora is not None, "the quickstart trains an adapter"
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    model: Any = get_peft_model(base.requires_grad_(False), lora)
    return LoadedModel(model, source.tokenizer(), source.precision.dtype)


def _rows(loaded: LoadedModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(100, loaded.model.config.vocab_size - 100, (ROWS, LENGTH), generator=generator)


def _training_step(loaded: LoadedModel, labelled: bool) -> Callable[[], None]:
    model = loaded.model.train()
    ids = _rows(loaded)
    labels = ids.clone()
    labels[:, : int(LENGTH * PROMPT_SHARE)] = -100

    def run() -> None:
        with labelled_positions_only() if labelled else nullcontext(), loaded.autocast():
            loss = model(input_ids=ids, labels=labels, fused_lm_head=True).loss
        loss.backward()
        model.zero_grad()

    return run


def _exam_batch(loaded: LoadedModel, scored_only: bool) -> Callable[[], None]:
    first = int(LENGTH * PROMPT_SHARE)
    scored = [at >= first for at in range(LENGTH)]
    rows = [Encoded(ids, ids, scored, trimmed=False) for ids in _rows(loaded).repeat(4, 1).tolist()]
    if not scored_only:
        likelihood._logits_at = _every_logit

    def run() -> None:
        bits_of_rows(loaded, rows, "exam")

    return run


def _every_logit(model: PreTrainedModel, columns: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[:, columns]


def _answers(loaded: LoadedModel, _: bool) -> Callable[[], None]:
    prompts = _rows(loaded).repeat(ANSWERS // ROWS, 1).tolist()

    def run() -> None:
        generate(loaded, prompts, Decoding(ANSWER_TOKENS, may_end=False))

    return run


@torch.no_grad()
def _product_seconds(loaded: LoadedModel) -> float:
    """Time the large products of a step: of each layer, forwards and backwards, and of the head where labelled."""
    model, head = loaded.model, loaded.model.get_output_embeddings()
    shapes = [
        (tuple(module.weight.shape), ROWS * (LENGTH - int(LENGTH * PROMPT_SHARE)) if module is head else ROWS * LENGTH)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora_" not in name
    ]
    return sum(2 * shapes.count(shape) * _product(*shape, loaded.dtype) for shape in set(shapes))


def _product(shape: tuple[int, ...], rows: int, dtype: torch.dtype) -> float:
    values, weight = torch.ones(rows, shape[1], dtype=dtype), torch.ones(shape, dtype=dtype)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.nn.functional.linear(values, weight)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    cost = measure(sys.argv[1], sys.argv[2])
    sys.stdout.write(json.dumps({name: getattr(cost, name) for name in Cost.__slots__}))
