"""Builds the corpus: changes rendered as training samples in the prompts of one model, and split by time.

A corpus is cached in `corpus_dir/NAME/samples-KEY` with a readable `corpus.json`, beside the changes it comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value, concatenate_datasets

from blocklm import cache
from blocklm.config.recipe import Recipe
from blocklm.config.sampling import OF_NO_AGE, SamplingArguments
from blocklm.corpus import splits
from blocklm.corpus.curation import Curated, curate, describe_funnel
from blocklm.corpus.joint.part import JointPart
from blocklm.corpus.joint.reports import of_each
from blocklm.corpus.joint.samples import join_samples
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import ModelPrompts
from blocklm.corpus.rendering import SampleRenderer
from blocklm.corpus.splits import describe_splits
from blocklm.errors import UserError
from blocklm.git.repository import Repository
from blocklm.mining.changes import Changes
from blocklm.mining.joint import texts_hold
from blocklm.mining.landing_times import landing_times
from blocklm.mining.mine import limits_of
from blocklm.mining.secrets.known import KnownSecrets
from blocklm.mining.snapshot import files_at

# The columns of a sample, in the order of `AnnotatedHunk.row`.
SAMPLES = Features(
    {
        "id": Value("string"),
        "prompt": Value("large_string"),
        "context": List(Value("int32")),
        "completion": Value("large_string"),
        "added": List(Value("int32")),
        "suffix": List(Value("int32")),
        "pieces": List(Value("int32")),
        "view": Value("string"),
        "commit": Value("string"),
        "path": Value("string"),
        "language": Value("string"),
        "seq": Value("int32"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "weight": Value("float32"),
        "seen_lines": Value("bool"),
        "change": Value("int32"),
        "hunk": Value("int32"),
        "place": List(Value("int32")),
    }
)
# The sampling keys that change the rendered samples; the others only choose which of them are read, and when.
RENDERED = ("recency", "survival", "boost", "author_weights")


@dataclass(frozen=True)
class Corpus:
    """Training samples by split, and what is known of them.

    Attributes:
        splits: samples by split name.
        report: the manifest's `corpus` entry.
        cache: `hit` if the samples were read from the cache, else `built`.
        folder: folder that holds this corpus and the changes it comes from.
        places: builds the prompts of samples whose place alone is stored.
        files: the files at the end of training; None if no key of the recipe needs them.
    """

    splits: DatasetDict
    report: dict[str, Any]
    cache: str
    folder: Path
    places: PlaceReader
    files: Dataset | None


def build_corpus(
    recipe: Recipe, repositories: Sequence[Repository], changes: Changes, prompts: ModelPrompts
) -> Corpus:
    """Turn mined changes into the samples that a recipe asks for.

    Each step's result is read from the cache if it is there.

    Args:
        recipe: recipe of the run.
        repositories: repositories that were mined.
        changes: changes mined from them.
        prompts: prompts of the model, for every view.

    Raises:
        UserError: a split is empty, or the files at the end of training cannot be read.
    """
    build = _build_joint if changes.parts else _build_one_history
    corpus = build(recipe, repositories, changes, prompts)
    for name in splits.NAMES[1:]:
        if not corpus.report["splits"][name]["views"].keys() & set(recipe.exam_views):
            raise UserError(
                f"{name} has no sample of the view `{'` or `'.join(recipe.exam_views)}`, which the exam needs",
                "set `exam_view` to another view, or `test_commits` to more commits",
            )
    return corpus


def _build_one_history(
    recipe: Recipe,
    repositories: Sequence[Repository],
    changes: Changes,
    prompts: ModelPrompts,
    known: KnownSecrets | None = None,
) -> Corpus:
    """Read or build the corpus of one history, whose files hold none of the `known` secrets of others."""
    mining, sampling = recipe.mining, recipe.sampling
    corpus_dir = Path(mining.corpus_dir)
    curated = curate(changes, mining)
    families = {view: prompts.families[view] for view in recipe.views}
    files = None
    of_files = not families.keys().isdisjoint(OF_NO_AGE) or recipe.run.target_exposures is not None
    if of_files or sampling.survival or sampling.recency == "auto":
        files = files_at(repositories, curated.report["cut"], limits_of(mining), corpus_dir, changes.known)
        if known is not None and texts_hold(files, known):
            files = files_at(repositories, curated.report["cut"], limits_of(mining), corpus_dir, known)
        files = _without_copies(files)
    read = replace(prompts, families=families)
    places = PlaceReader(changes.dataset, repositories, changes.known, read)
    return load_samples(changes, curated, files, sampling, places, corpus_dir)


def _without_copies(files: Dataset) -> Dataset:
    """Leave out the files that an earlier repository of the history has too, as a fork has those of its upstream."""
    owner = dict[int, str]()
    rows = [
        row
        for row, (repo, text) in enumerate(zip(files["repo"], files["diff"], strict=True))
        if not text or owner.setdefault(hash(text), repo) == repo
    ]
    return files.select(rows) if len(rows) < len(files) else files


def _build_joint(
    recipe: Recipe, repositories: Sequence[Repository], changes: Changes, prompts: ModelPrompts
) -> Corpus:
    """Read or build the corpus of each repository, and join their samples."""
    own = {repository.name: repository for repository in repositories}

    def build_part(part: Changes) -> Corpus:
        return _build_one_history(recipe, [own[part.report["repository"]["name"]]], part, prompts, changes.known)

    corpora = of_each(changes.parts, build_part)
    verdicts = [curate(part, recipe.mining).verdicts for part in changes.parts]
    parts = [
        JointPart(part, judged, corpus.splits, corpus.report)
        for part, judged, corpus in zip(changes.parts, verdicts, corpora, strict=True)
    ]
    stored, folder = join_samples(changes, parts, recipe)
    places = replace(corpora[0].places, changes=changes.dataset, repositories=repositories, known=changes.known)
    files = [corpus.files for corpus in corpora if corpus.files is not None]
    return Corpus(
        stored.dataset, stored.report, stored.cache, folder, places, concatenate_datasets(files) if files else None
    )


def load_samples(
    changes: Changes,
    curated: Curated,
    files: Dataset | None,
    sampling: SamplingArguments,
    places: PlaceReader,
    corpus_dir: Path,
) -> Corpus:
    """Render the hunks that curation kept, or read the cached result.

    Args:
        changes: mined changes.
        curated: verdicts on their hunks.
        files: files as they were at the end of training, for the views `file` and `card`, survival and the half-life;
            None if none of these is used.
        sampling: sampling keys of the recipe: views and weights.
        places: builds the prompts of drawn samples, with those of the model; a view without a family is not rendered.
        corpus_dir: folder where corpora are cached.

    Raises:
        UserError: nothing is left to render.
    """
    prompts = places.prompts
    settings: dict[str, Any] = {
        "curated": curated.report["key"],
        "tokens": sorted(prompts.special_tokens),
        "prompts": {view: family.name for view, family in prompts.families.items()},
        "sampling": [getattr(sampling, key) for key in RENDERED],
        "files": None if files is None else files._fingerprint,
    }
    key = cache.data_key("mining", "corpus", "cache", **settings)
    folder = corpus_dir / changes.report["repository"]["name"][:100] / f"samples-{key}"

    def build(ready: Path) -> dict[str, Any]:
        rendered = SampleRenderer(changes.dataset, curated.verdicts, files, sampling, prompts)
        splits_built = cache.write_splits(ready / "data", rendered.samples(), SAMPLES, splits.NAMES, fingerprint=key)
        left_out = {rule: count for rule, count in rendered.left_out.items() if count}
        empty = [name for name, split in splits_built.items() if not len(split)]
        if empty:
            funnel = curated.report["hunk_funnel"] + [{"rule": rule, "dropped": n} for rule, n in left_out.items()]
            raise UserError(
                f"nothing is left for {' and '.join(empty)}: {describe_funnel(funnel)}",
                "use a longer history; `python scripts/mine.py RECIPE` says what each rule means",
            )
        return curated.report | {
            "key": key,
            "left_out": left_out,
            "weights": rendered.weights.report,
            "prompts": settings["prompts"],
            "changes": changes.report["changes"],
            "splits": describe_splits(splits_built, landing_times(changes.dataset.data.table)),
        }

    stored = cache.read_or_build(folder, build)
    return Corpus(stored.dataset, stored.report, stored.cache, folder.parent, places, files)
