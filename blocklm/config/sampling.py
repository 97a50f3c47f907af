"""The recipe's keys for the training samples: their views, their weights and the order in which they are read.

They change neither the mined changes nor what is filtered out, so one mined corpus serves every setting of them.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml
from pathspec import GitIgnoreSpec

from blocklm.config.recipe_file import UNREADABLE
from blocklm.errors import UserError

# As the parser accepts it: a mapping of YAML, or a text that is read as YAML.
GivenMapping = dict | str | None  # type: ignore[type-arg]
# The views at a place in a file, as an editor asks; with those of one hunk, which the exam can use too; and those of a
# commit, of two commits and of a tree.
PLACE_VIEWS = ("completion", "next_edit")
HUNK_VIEWS = (*PLACE_VIEWS, "edit", "diff")
VIEWS = (*HUNK_VIEWS, "message", "review", "file", "card")
OF_NO_AGE = ("file", "card")  # of current files, which no single commit wrote
RENAMED = {"fim": "completion", "next_line": "completion", "snapshot": "file"}
DEFAULT_VIEWS = {"file": 0.7, "completion": 0.12, "next_edit": 0.08, "edit": 0.05, "message": 0.05}
MAPPINGS = ("views", "boost", "author_weights", "repository_weights", "phases")


@dataclass(frozen=True)
class SamplingArguments:
    """Which samples are made of the changes, how much each weighs, and in which order they are read."""

    _argument_group_name: ClassVar[str] = "samples"
    views: GivenMapping = field(
        default=None,
        metadata={
            "help": "Share of each view in the training samples, such as {completion: 0.7, file: 0.3}. Default: "
            + ", ".join(f"{view} {share:g}" for view, share in DEFAULT_VIEWS.items())
            + "."
        },
    )
    template: str = field(
        default="auto",
        metadata={
            "help": "Family of prompt templates, such as starcoder2 or plain; probe chooses the family that the "
            "base model predicts best; auto does so if that takes less than 2 percent of the run, and otherwise "
            "chooses by the vocabulary."
        },
    )
    retrieved_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of the completion and next_edit samples that also show pieces of other files, as they were "
            "before the commit: the nearest one or two by BM25, and one at random."
        },
    )
    recency: str = field(
        default="off",
        metadata={
            "help": "Weight of samples by age: a number of days after which a change counts half as much as a new one; "
            "auto for the age at which half of the lines are gone; newest to fill an epoch of `max_train_samples` with "
            "the newest of each view; off for equal weights."
        },
    )
    survival: bool = field(
        default=True,
        metadata={"help": "Give more weight to changes whose lines still exist at the last training commit."},
    )
    boost: GivenMapping = field(
        default=None,
        metadata={"help": "Weights of paths by glob, such as {'crates/consensus/**': 2}; 0 leaves a path out."},
    )
    author_weights: GivenMapping = field(
        default=None,
        metadata={"help": "Weights of authors, such as {'Ada Lovelace <ada@example.org>': 2}; 0 leaves one out."},
    )
    repository_weights: GivenMapping = field(
        default=None,
        metadata={
            "help": "Weights of repositories by name with `split_each`, such as {core: 2}; 0 teaches nothing of one."
        },
    )
    phases: GivenMapping = field(
        default=None,
        metadata={
            "help": "Phases of the training by name, in order, each with its share and samples: {early: {share: 0.8}, "
            "late: {share: 0.2, span: [0.8, 1.0], max_length: 512}}. A span is a range of the samples by age, from 0 "
            "for the oldest to 1 for the newest."
        },
    )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each view that has one; the shares sum to 1."""
        assert isinstance(self.views, dict), "`parse_sampling` reads texts and puts the default in"
        shares = {view: share for view, share in self.views.items() if share}
        return {view: share / sum(shares.values()) for view, share in shares.items()}


def parse_sampling(sampling: SamplingArguments) -> SamplingArguments:
    """Read the keys that hold mappings, and check the keys of this group; views that are left out become the default.

    A run is saved with the views that it read, because another version may have another default.

    Raises:
        UserError: a key holds no mapping, or a value that is not valid.
    """
    mappings: dict[str, Any] = {key: _mapping(sampling, key) for key in MAPPINGS}
    mappings["views"] = mappings["views"] or dict(DEFAULT_VIEWS)
    parsed = dataclasses.replace(sampling, **mappings)
    _check(parsed)
    _check_phases(mappings["phases"] or {})
    return parsed


def _mapping(sampling: SamplingArguments, key: str) -> dict[str, Any] | None:
    """The mapping of a key, from YAML or as text on the command line; None if it is empty."""
    value = getattr(sampling, key)
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except UNREADABLE:
            value = str(value)
    if value is None or isinstance(value, dict):
        return value or None
    raise UserError(f"`{key}` is no mapping: {value!r}", f"write it as {key}: {{name: value}}")


def _check(sampling: SamplingArguments) -> None:
    for key in ("views", "boost", "author_weights", "repository_weights"):
        _check_weights(key, getattr(sampling, key) or {})
    views = sampling.shares
    if old := sorted(set(views) & set(RENAMED)):
        raise UserError(f"`views` has no view {old[0]!r} any more", f"write `{RENAMED[old[0]]}` instead")
    if unknown := set(views) - set(VIEWS):
        raise UserError(f"`views` has no view {sorted(unknown)[0]!r}", f"there are {', '.join(VIEWS)}")
    if not any(views.get(view) for view in HUNK_VIEWS):
        raise UserError(
            "`views` gives no share to a view that the exam can use", f"give one of {', '.join(HUNK_VIEWS)} a share"
        )
    if not 0 <= sampling.retrieved_share <= 1:
        raise UserError(f"`retrieved_share` cannot be {sampling.retrieved_share}", "give a share from 0 to 1")
    if sampling.recency not in ("auto", "newest", "off"):
        try:
            days = float(sampling.recency)
        except ValueError:
            days = 0.0
        if not 0 < days < float("inf"):
            raise UserError(f"`recency` cannot be {sampling.recency!r}", "give auto, newest, off, or a number of days")
    for pattern in sampling.boost or ():
        check_glob("boost", pattern)


def _check_weights(key: str, weights: dict[Any, Any]) -> None:
    for name, value in weights.items():
        if not isinstance(name, str):
            raise UserError(f"`{key}` cannot have {name!r}", "quote the name")
        if not _is_number(value) or value < 0:
            raise UserError(f"`{key}` of {name} cannot be {value!r}", "give a number from 0 up")


def _check_phases(phases: dict[str, Any]) -> None:
    known = {"share", "span", "max_length"}
    for name, phase in phases.items():
        if not isinstance(phase, dict) or not _is_number(phase.get("share")) or set(phase) - known:
            raise UserError(
                f"`phases` cannot have {name}: {phase!r}",
                f"give it a share and no keys but {', '.join(sorted(known))}",
            )
        span, length = phase.get("span", [0, 1]), phase.get("max_length", 1)
        numbers = isinstance(span, list) and len(span) == 2 and all(map(_is_number, span))
        ordered = numbers and 0 <= span[0] < span[1] <= 1
        if not ordered or phase["share"] <= 0 or not isinstance(length, int) or length < 1:
            raise UserError(
                f"`phases` cannot have {name}: {phase!r}",
                "give a positive share and max_length, and a span such as [0.8, 1.0]",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_glob(key: str, pattern: str) -> None:
    """Raise `UserError` unless `pattern` is a valid glob of .gitignore."""
    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        raise UserError(f"`{key}` holds no valid glob: {pattern!r}", "write it as in .gitignore") from None
