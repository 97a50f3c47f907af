"""The model card of a run: what the adapter saw, how it scored, how to load it."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from blocklm.report import exam_table

TEMPLATE = """---
{card_data}
---

# {title}

A {kind} of `{base_model}` that learned from the git history of one repository with BlockLM.

## What it saw

{commits} commits ({merges} of them merges) by {authors} authors from {first} to {last}, head `{head}`.
It was trained on {train} samples of the commits before {cut}; the commits after that were kept for validation and exam.{origin}
Merges, generated, vendored, binary and oversized files were left out. The author fields of commits
are not part of the data; names that stand in code or in the text of a message are.

## How it scored

```
{exam}
```

Bits per byte measure how well the model predicts the text that later commits add: fewer are better. They say nothing
about whether generated code compiles.

## How to load it

```python
{usage}
```

Recipe and provenance are in `recipe.yaml` and `manifest.json`.
"""
ADAPTER_USAGE = """from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{run}")
model = AutoModelForCausalLM.from_pretrained("{run}")  # fetches the base and puts the adapter on it
print(tokenizer.decode(model.generate(**tokenizer("fn main() {{", return_tensors="pt"), max_new_tokens=32)[0]))"""


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


def write_card(run_dir: Path, manifest: dict[str, Any]) -> None:
    """Write `README.md` for the adapter in `run_dir` from its manifest."""
    repository, splits, recipe = manifest["repository"], manifest["corpus"]["splits"], manifest["recipe"]
    adapted = bool(recipe.get("use_peft"))
    base = str(recipe["model_name_or_path"])
    data = ModelCardData(
        base_model=base,
        library_name="peft" if adapted else "transformers",
        pipeline_tag="text-generation",
        tags=["blocklm", "code", *(["lora"] if adapted else [])],
    )
    origin, read = manifest["training"]["continued_from"], splits["train"]
    card = TEMPLATE.format(
        card_data=data.to_yaml(),
        title=f"{repository['name']} · {Path(base).name}",
        kind="LoRA adapter" if adapted else "fine-tuned copy",
        base_model=base,
        commits=repository["commits"],
        merges=repository["merges"],
        authors=repository["authors"],
        first=repository["first_commit_time"][:10],
        last=repository["last_commit_time"][:10],
        head=repository["head"][:12],
        train=read["used"],
        cut=splits["validation"]["from"][:10],
        exam=exam_table(manifest["exam"]) if manifest["exam"] else "no exam was run",
        usage=ADAPTER_USAGE.format(run=run_dir),
        origin=KEPT_ORIGIN.format(**origin | {"head": origin["head"][:12]}, percent=100 * read["replay_share"])
        if origin
        else "",
    )
    (run_dir / "README.md").write_text(card, encoding="utf-8")


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
