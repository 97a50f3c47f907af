"""The model card of a run: what the adapter saw, how it scored, how to load it, and what it was made of by hash."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from blocklm.runs.report.exam_table import exam_table

TEMPLATE = """---
{card_data}
---

# {title}

A {kind} of `{base_model}`{revision} that learned from the git history of one repository with BlockLM.{warning}

## What it saw

{commits} commits ({merges} of them merges) by {authors} authors from {first} to {last}, head `{head}`.
It was trained on {train} samples of the commits before {cut}; the commits after that were kept for validation and exam.{origin}
Merges, generated, vendored, binary and oversized files were left out. The author fields of commits
are not part of the data; names that stand in code or in the text of a message are. Credentials and mail addresses that our
rules know were replaced before training.

## How it scored

```
{exam}
```

Bits per byte measure how well the model predicts the text that later commits add: fewer are better. They say nothing
about whether generated code compiles, and nothing of other repositories. Part of a gain is the form of the question.

## How to load it

```python
{usage}
```

## How it was made

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
SHOWN = ("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "max_length", "lora_r", "lora_alpha",
         "load_in_4bit", "load_in_8bit", "seed")  # fmt: skip

KEPT_ORIGIN = """
It goes on from an earlier run at `{head}`: {new_commits} commits are new since, and {percent:.0f} % of what it read is older."""
ROLLED_BACK = """
## A top-up that was not kept

Training went on to head `{head}` and did worse, so the result of the earlier run stands here and the card above is its own;
`tuned` below is what was rejected.

```
{exam}
```
"""
FORCED = """

**Pushed by force.** It did not pass the checks before publication: {reasons}."""


@dataclass(frozen=True)
class CardContext:
    """How a card names what it is about.

    Attributes:
        where: the directory or hub name from which the result is loaded.
        base_model: directory or hub name of the base.
        revision: its commit, where it is known.
        adapter: whether the result is an adapter, not a whole model.
        licence: of the base, where it is known.
        reasons: why the result should not have been pushed, where it was pushed by force.
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
    shown = CardContext(
        str(run_dir), str(recipe["model_name_or_path"]), recipe.get("model_revision"), bool(recipe.get("use_peft"))
    )
    (run_dir / "README.md").write_text(card_text(manifest, shown), encoding="utf-8")


def card_text(manifest: dict[str, Any], shown: CardContext) -> str:
    """The card; it names no person, no repository and no path but `shown.where` and `shown.base_model`."""
    repository, splits = manifest["repository"], manifest["corpus"]["splits"]
    origin, read = manifest["training"]["continued_from"], splits["train"]
    usage = ADAPTER_USAGE if shown.adapter else MODEL_USAGE
    revision = f" at `{shown.revision[:12]}`" if shown.revision else ""
    return TEMPLATE.format(
        card_data=_metadata(manifest, shown).to_yaml(),
        title=f"{Path(shown.where).name} · {Path(shown.base_model).name}",
        kind="LoRA adapter" if shown.adapter else "fine-tuned copy",
        base_model=shown.base_model,
        revision=revision,
        warning=FORCED.format(reasons="; ".join(shown.reasons)) if shown.reasons else "",
        commits=repository["commits"],
        merges=repository["merges"],
        authors=repository["authors"],
        first=repository["first_commit_time"][:10],
        last=repository["last_commit_time"][:10],
        head=repository["head"][:12],
        train=read["used"],
        cut=splits["validation"]["from"][:10],
        exam=exam_table(manifest["exam"]) if manifest["exam"] else "no exam was run",
        usage=usage.format(run=shown.where, at=" at that commit" if revision else ""),
        origin=KEPT_ORIGIN.format(**origin | {"head": origin["head"][:12]}, percent=100 * read["replay_share"])
        if origin
        else "",
        made=_made(manifest, shown),
    )


def _metadata(manifest: dict[str, Any], shown: CardContext) -> ModelCardData:
    exam = manifest["exam"]
    examined: dict[str, Any] = {"model_name": Path(shown.where).name, "eval_results": _results(exam)} if exam else {}
    return ModelCardData(
        base_model=shown.base_model,
        base_model_relation="adapter" if shown.adapter else "finetune",
        library_name="peft" if shown.adapter else "transformers",
        license=shown.licence,
        pipeline_tag="text-generation",
        tags=["blocklm", "code", *(["lora"] if shown.adapter else [])],
        **examined,
    )


def _results(exam: dict[str, Any]) -> list[EvalResult]:
    """The exam as the hub's `model-index` has it; the data stay private and have no name there."""
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


def _made(manifest: dict[str, Any], shown: CardContext) -> str:
    recipe, training, packages = manifest["recipe"], manifest["training"], manifest["environment"]["packages"]
    keys = ", ".join(f"`{key}: {recipe[key]}`" for key in SHOWN if recipe.get(key) is not None)
    plan = manifest["plan"] or {}
    device = plan.get("device", {}).get("name", "an unknown device")
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "trl", "peft"))
    licence = shown.licence or "not known here: see the base model's own card"
    lines = [
        f"{training['steps']} steps over {training['tokens_seen']} tokens on {device}, with BlockLM "
        f"{manifest['blocklm_version']} ({versions}).",
        f"Recipe: {keys}.",
        f"Provenance: history `{manifest['repository']['head']}`, corpus `{manifest['corpus']['key']}`; the files' SHA-256 "
        "stand in `provenance.json` where it was published, in `manifest.json` where it was trained.",
        f"Licence of the base model: {licence}. What the history's own licence asks of a model of it is not settled by this card.",
    ]
    return "\n\n".join(lines)


def write_card_of_previous(run_dir: Path, manifest: dict[str, Any], previous: Path, named: str) -> None:
    """Write the card of a run that was rolled back: the one of the previous run, and what was tried since.

    Args:
        run_dir: where the previous run's result stands now.
        manifest: of the run that was rolled back.
        previous: the run whose result it is.
        named: how that run's own card names its directory.
    """
    card = (previous / "README.md").read_text(encoding="utf-8").replace(f'"{named}"', f'"{run_dir}"')
    tried = ROLLED_BACK.format(head=manifest["repository"]["head"][:12], exam=exam_table(manifest["exam"]))
    (run_dir / "README.md").write_text(card + tried, encoding="utf-8")
