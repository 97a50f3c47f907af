"""The corpus: changes rendered as training samples in the prompts of one model, and split by time.

It stands in `corpus_dir/NAME/samples-KEY` with a readable `corpus.json`, beside the changes it was rendered from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from blocklm import cache
from blocklm.config.recipe import Recipe
from blocklm.config.sampling import SamplingArguments
from blocklm.corpus import splits
from blocklm.corpus.curation import Curated, curate, describe_funnel
from blocklm.corpus.prompt_templates import Family
from blocklm.corpus.rendering import SAMPLES, SampleRenderer
from blocklm.errors import UserError
from blocklm.git.repository import Repository
from blocklm.mining.changes import Changes
from blocklm.mining.landing_times import landing_times
from blocklm.mining.mine import limits_of
from blocklm.mining.snapshot import files_at

# The keys that shape what is rendered; the others only say what of it is read, and when.
RENDERED = ("recency", "survival", "boost", "author_weights")


@dataclass(frozen=True)
class Corpus:
    """Training samples by split, where they stand, and the manifest's `corpus` entry as `report`."""

    splits: DatasetDict
    report: dict[str, Any]
    cache: str
    folder: Path


def build_corpus(
    recipe: Recipe,
    repositories: Sequence[Repository],
    changes: Changes,
    prompts: Mapping[str, Family],
    special_tokens: frozenset[str],
) -> Corpus:
    """Everything from mined changes to samples, as a recipe says; each part is read from the cache where it is there.

    Args:
        recipe: the run.
        repositories: what was mined.
        changes: what it gave.
        prompts: the family whose prompts a view takes, for every view.
        special_tokens: the model's.

    Raises:
        UserError: nothing is left, or the files where training ends cannot be read.
    """
    mining, sampling = recipe.mining, recipe.sampling
    corpus_dir = Path(mining.corpus_dir)
    curated = curate(changes, mining)
    wanted = {view: prompts[view] for view in recipe.views}
    files = None
    if "snapshot" in wanted or sampling.survival or sampling.recency == "auto":
        files = files_at(repositories, curated.report["cut"], limits_of(mining), corpus_dir, changes.known)
    corpus = load_samples(changes, curated, files, sampling, wanted, special_tokens, corpus_dir)
    for name in splits.NAMES[1:]:
        if recipe.exam_view not in corpus.report["splits"][name]["views"]:
            raise UserError(
                f"{name} has no sample of the view `{recipe.exam_view}`, in which it is to be asked",
                "set `exam_view` to another view, or `test_commits` to more commits",
            )
    return corpus


def load_samples(
    changes: Changes,
    curated: Curated,
    files: Dataset | None,
    sampling: SamplingArguments,
    prompts: Mapping[str, Family],
    special_tokens: frozenset[str],
    corpus_dir: Path,
) -> Corpus:
    """Render the hunks that may teach or ask, or read the cached result.

    Args:
        changes: what was mined.
        curated: the verdicts on its hunks.
        files: the files as they stood where training ends, for the snapshot view, survival and the half-life; None without any.
        sampling: which views, and what weighs more.
        prompts: the family whose prompts each view takes; a view without one is not rendered.
        special_tokens: the model's special tokens; text that contains one is left out.
        corpus_dir: where corpora are cached.

    Raises:
        UserError: nothing is left to render.
    """
    settings: dict[str, Any] = {
        "curated": curated.report["key"],
        "tokens": sorted(special_tokens),
        "prompts": {view: family.name for view, family in prompts.items()},
        "sampling": [getattr(sampling, key) for key in RENDERED],
        "files": None if files is None else files._fingerprint,
    }
    key = cache.data_key("mining", "corpus", "cache", **settings)
    folder = corpus_dir / changes.report["repository"]["name"][:100] / f"samples-{key}"

    def build(ready: Path) -> dict[str, Any]:
        rendered = SampleRenderer(changes.dataset, curated.verdicts, files, sampling, prompts, special_tokens)
        divided = cache.write_splits(ready / "data", rendered.samples(), SAMPLES, splits.NAMES, fingerprint=key)
        left_out = {rule: count for rule, count in rendered.left_out.items() if count}
        empty = [name for name, split in divided.items() if not len(split)]
        if empty:
            gone = curated.report["hunk_funnel"] + [{"rule": rule, "dropped": n} for rule, n in left_out.items()]
            raise UserError(
                f"nothing is left for {' and '.join(empty)}: {describe_funnel(gone)}",
                "`python scripts/mine.py RECIPE` says what each rule means; a longer history is needed",
            )
        found = {"key": key, "left_out": left_out, "weights": rendered.weights.report, "prompts": settings["prompts"]}
        return (
            curated.report
            | found
            | {
                "changes": changes.report["changes"],
                "splits": _spans(divided, landing_times(changes.dataset.data.table)),
            }
        )

    return Corpus(*cache.read_or_build(folder, build), folder.parent)


def _spans(built: DatasetDict, landed: Mapping[int, int]) -> dict[str, dict[str, Any]]:
    """What each split holds, and when it landed, from when to when: so splits do not overlap."""
    spans = {}
    for name, split in built.items():
        table = split.data.table
        seconds = [landed[seq] for seq in table["seq"].unique().to_pylist()]
        counts = table["view"].value_counts().to_pylist()
        spans[name] = {
            "commits": len(table["commit"].unique()),
            "samples": len(split),
            "views": {entry["values"]: entry["counts"] for entry in counts},
            "from": datetime.fromtimestamp(min(seconds), UTC).isoformat(),
            "to": datetime.fromtimestamp(max(seconds), UTC).isoformat(),
        }
    return spans
