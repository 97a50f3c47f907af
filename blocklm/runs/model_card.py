"""Writes the model card of a run: training data, exam result, how to load it, and hashes of what it was made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from blocklm.runs.report.exam_text import exam_text

TEMPLATE = """---
{card_data}
---

# {title}

A {kind} of `{base_model}`{revision}, trained on git history with BlockLM.{warning}

## Training data

{commits} commits ({merges} of them merges) by {authors} authors from {first} to {last}, head `{head}`.
It was trained on {train} samples of the commits up to {cut}; the newest of each history were kept for validation and exam.{origin}
Merges, generated, vendored, binary and oversized files were left out. The author fields of commits
are not part of the data; names in code or in the text of a message are. Credentials and mail addresses that BlockLM's
rules recognise were replaced before training.

## Exam result

```
{exam}
```

Bits per byte measure how well the model predicts the text that later commits add: fewer are better. They say nothing
about whether generated code compiles, and nothing about other repositories. Part of a gain comes from learning the form
of the questions.

## How to load it

```python
{usage}
```

## Provenance

{made}
"""
ADAPTER_USAGE = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{run}")
model = AutoPeftModelForCausalLM.from_pretrained("{run}")  # fetches the base{at} and puts the adapter on it
print(tokenizer.decode(model.generate(**tokenizer("fn main() {{", return_tensors="pt"), max_new_tokens=32)[0]))"""
MODEL_USAGE = """from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{run}")
model = AutoModelForCausalLM.from_pretrained("{run}")
print(tokenizer.decode(model.generate(**tokenizer("fn main() {{", return_tensors="pt"), max_new_tokens=32)[0]))"""
RECIPE_KEYS = ("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "max_length", "lora_r",
               "lora_alpha", "load_in_4bit", "load_in_8bit", "seed")  # fmt: skip

CONTINUATION = """
It continues an earlier run at head `{head}`: {new_commits} commits are newer than that,
and {percent:.0f} % of its samples are older."""
ROLLED_BACK = """
## A top-up that was not kept

Training on the commits up to head `{head}` made the model worse, so this directory holds the result of the earlier run,
which the card above describes. `tuned` below is the rejected model.

```
{exam}
```
"""
FORCED = """

**Pushed by force.** It did not pass the checks before publication: {reasons}."""


@dataclass(frozen=True)
class CardContext:
    """The names that a card uses for the result and its base model.

    Attributes:
        where: directory or hub name from which the result is loaded.
        base_model: directory or hub name of the base.
        revision: commit of the base; None if it is unknown.
        adapter: whether the result is an adapter, not a full model.
        licence: licence of the base; default: None, for unknown.
        reasons: reasons against publication that `--force` overruled; default: none.
    """

    where: str
    base_model: str
    revision: str | None
    adapter: bool
    licence: str | None = None
    reasons: tuple[str, ...] = ()


def write_card(run_dir: Path, manifest: dict[str, Any]) -> None:
    """Write `README.md` for the result in `run_dir` from its manifest."""
    recipe = manifest["recipe"]
    context = CardContext(
        str(run_dir), str(recipe["model_name_or_path"]), recipe.get("model_revision"), bool(recipe.get("use_peft"))
    )
    (run_dir / "README.md").write_text(card_text(manifest, context), encoding="utf-8")


def card_text(manifest: dict[str, Any], context: CardContext) -> str:
    """Return the card's text, which names no person or repository, and no path but `context.where` and its base."""
    repository, splits = manifest["repository"], manifest["corpus"]["splits"]
    origin, train = manifest["training"]["continued_from"], splits["train"]
    usage = ADAPTER_USAGE if context.adapter else MODEL_USAGE
    revision = f" at `{context.revision[:12]}`" if context.revision else ""
    return TEMPLATE.format(
        card_data=_metadata(manifest, context).to_yaml(),
        title=f"{Path(context.where).name} · {Path(context.base_model).name}",
        kind="LoRA adapter" if context.adapter else "fine-tuned copy",
        base_model=context.base_model,
        revision=revision,
        warning=FORCED.format(reasons="; ".join(context.reasons)) if context.reasons else "",
        commits=repository["commits"],
        merges=repository["merges"],
        authors=repository["authors"],
        first=repository["first_commit_time"][:10],
        last=repository["last_commit_time"][:10],
        head=repository["head"][:12],
        train=train["used"],
        cut=splits["train"]["to"][:10],
        exam=exam_text(manifest["exam"]) if manifest["exam"] else "no exam was run",
        usage=usage.format(run=context.where, at=" at that commit" if revision else ""),
        origin=CONTINUATION.format(**origin | {"head": origin["head"][:12]}, percent=100 * train["replay_share"])
        if origin
        else "",
        made=_provenance(manifest, context),
    )


def _metadata(manifest: dict[str, Any], context: CardContext) -> ModelCardData:
    exam = manifest["exam"]
    results: dict[str, Any] = {"model_name": Path(context.where).name, "eval_results": _results(exam)} if exam else {}
    return ModelCardData(
        base_model=context.base_model,
        base_model_relation="adapter" if context.adapter else "finetune",
        library_name="peft" if context.adapter else "transformers",
        license=context.licence,
        pipeline_tag="text-generation",
        tags=["blocklm", "code", *(["lora"] if context.adapter else [])],
        **results,
    )


def _results(exam: dict[str, Any]) -> list[EvalResult]:
    """Convert the exam to entries of the hub's `model-index`; the data are private and not named."""
    low, high = exam["ci95"]
    metrics = {
        "bits per byte, tuned": exam["tuned"]["bits_per_byte"],
        "bits per byte, base": exam["base"]["bits_per_byte"],
        f"change in percent, 95 % interval [{low:+.1f}, {high:+.1f}]": exam["delta_percent"],
    }
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="private",
            dataset_name=f"{exam['commits']} commits after the split of a private git history",
            metric_type="bits_per_byte" if "bits" in name else "percent",
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in metrics.items()
    ]


def _provenance(manifest: dict[str, Any], context: CardContext) -> str:
    recipe, training, packages = manifest["recipe"], manifest["training"], manifest["environment"]["packages"]
    keys = ", ".join(f"`{key}: {recipe[key]}`" for key in RECIPE_KEYS if recipe.get(key) is not None)
    plan = manifest["plan"] or {}
    device = plan.get("device", {}).get("name", "an unknown device")
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "trl", "peft"))
    licence = context.licence or "not known here: see the base model's own card"
    lines = [
        f"{training['steps']} steps over {training['tokens_seen']} tokens on {device}, with BlockLM "
        f"{manifest['blocklm_version']} ({versions}).",
        f"Recipe: {keys}.",
        f"Head `{manifest['repository']['head']}`, corpus `{manifest['corpus']['key']}`. The files' SHA-256 are in "
        "`provenance.json` of a published copy and in `manifest.json` of the run directory.",
        f"Licence of the base model: {licence}. This card does not say what the licence of the repository demands of a "
        "model that was trained on it.",
    ]
    return "\n\n".join(lines)


def write_card_of_previous(run_dir: Path, manifest: dict[str, Any], previous: Path, name: str) -> None:
    """Write the card of a run that was rolled back: the previous run's card, and the result that was rejected.

    Args:
        run_dir: directory of the run that was rolled back.
        manifest: content of its manifest.
        previous: directory of the previous run.
        name: directory of the previous run as its card has it.
    """
    card = (previous / "README.md").read_text(encoding="utf-8").replace(f'"{name}"', f'"{run_dir}"')
    rejected = ROLLED_BACK.format(head=manifest["repository"]["head"][:12], exam=exam_text(manifest["exam"]))
    (run_dir / "README.md").write_text(card + rejected, encoding="utf-8")
