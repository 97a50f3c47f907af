"""The corpus: changes rendered as training samples for one model family, and split by time.

It stands in `corpus_dir/NAME/samples-KEY` with a readable `corpus.json`, beside the changes it was rendered from.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value, load_from_disk
from tqdm import tqdm

from blocklm import hygiene, splits, store, views
from blocklm.changes import Changes
from blocklm.errors import UserError

ROWS_PER_BATCH = 1000
SAMPLES = Features(
    {
        "id": Value("string"),
        "prompt": Value("large_string"),
        "completion": Value("large_string"),
        "added": List(Value("int32")),
        "view": Value("string"),
        "commit": Value("string"),
        "path": Value("string"),
        "language": Value("string"),
        "seq": Value("int32"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "weight": Value("float32"),
    }
)


@dataclass(frozen=True)
class Corpus:
    """Training samples by split; `report` holds the manifest's `corpus` entry."""

    splits: DatasetDict
    report: dict[str, Any]
    cache: str


def load_samples(
    changes: Changes, special_tokens: frozenset[str], test_commits: int | None, corpus_dir: Path
) -> Corpus:
    """Render the kept changes for one model family and split them by time, or read the cached result.

    Args:
        changes: what to render.
        special_tokens: the model's special tokens; they tell its family, and text that contains one is left out.
        test_commits: size of the test split in commits, None to adapt to the repository.
        corpus_dir: where corpora are cached.

    Raises:
        UserError: nothing is left after the filters, or too few commits to split.
    """
    family = views.family_of(special_tokens)
    settings = {"changes": changes.report["key"], "tokens": sorted(special_tokens), "test_commits": test_commits}
    key = store.data_key(hygiene, views, splits, store, sys.modules[__name__], **settings)
    folder = corpus_dir / changes.report["repository"]["name"][:100] / f"samples-{key}"
    stored = store.read(folder)
    if stored is not None:
        return Corpus(*stored, cache="hit")
    with store.turn(folder):
        stored = store.read(folder)  # another process may have built it while this one waited
        if stored is not None:
            return Corpus(*stored, cache="hit")
        left_out: Counter[str] = Counter()
        rows = _sample_rows(changes.dataset, family, special_tokens, left_out)
        with store.publish(folder) as ready:
            rendered = store.write_arrow(ready / "rendered.arrow", _batches(rows), SAMPLES)
            if not len(rendered):
                raise UserError(
                    f"nothing is left to learn from after the filters: {_told(changes.report['funnel'], left_out)}",
                    "`python scripts/mine.py RECIPE` says what each rule means; a repository of code is needed",
                )
            split_of = splits.split_by_time(rendered["seq"], test_commits)
            divided = store.divide(rendered, [split_of[seq] for seq in rendered["seq"]], splits.NAMES)
            report = _samples_report(key, family, changes.report, left_out, divided)
            store.save_splits(divided, ready / "data")
            store.write_report(ready, report)
            (ready / "rendered.arrow").unlink()
    return Corpus(load_from_disk(str(folder / "data")), report, cache="built")


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    while some := list(islice(rows, ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(some, SAMPLES.arrow_schema)


def _sample_rows(
    changes: Dataset, family: views.Family, special_tokens: frozenset[str], left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Render every kept change; those whose text holds a special token would break a prompt and are counted instead."""
    kept = changes.select([at for at, reason in enumerate(changes["drop_reason"]) if reason is None])
    for change in tqdm(kept, "rendering", unit=" changes", disable=None):
        text = "\n".join((change["path"], change["message"], change["diff"]))
        if any(token in text for token in special_tokens):
            left_out["special_token"] += 1
            continue
        shared = {key: change[key] for key in ("commit", "path", "language", "seq", "commit_time")}
        for sample in views.render_edit(
            family, **{key: change[key] for key in ("repo", "commit", "path", "message", "diff")}
        ):
            yield shared | asdict(sample) | {"weight": 1.0}


def _samples_report(
    key: str, family: views.Family, source: dict[str, Any], left_out: Counter[str], built: DatasetDict
) -> dict[str, Any]:
    # A branch may land after newer commits: the landing time is the latest seen so far, so that splits do not overlap.
    landed = iter(accumulate(chain.from_iterable(split["commit_time"] for split in built.values()), max))
    spans = {}
    for name, split in built.items():
        times = list(islice(landed, len(split)))
        spans[name] = {
            "commits": len(set(split["commit"])),
            "samples": len(split),
            "from": times[0].isoformat(),
            "to": times[-1].isoformat(),
        }
    return {
        "key": key,
        "changes": source["changes"],
        "funnel": source["funnel"],
        "family": family.name,
        "left_out": dict(left_out),
        "splits": spans,
    }


def _told(funnel: list[dict[str, Any]], left_out: Counter[str]) -> str:
    dropped = [f"{entry['dropped']} {entry['rule']}" for entry in funnel if "dropped" in entry]
    return ", ".join(dropped + [f"{count} {reason}" for reason, count in left_out.items()]) or "no change at all"
