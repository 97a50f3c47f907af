"""The corpus: changes rendered as training samples for one model family, and split by time.

It stands in `corpus_dir/NAME/samples-KEY` with a readable `corpus.json`, beside the changes it was rendered from.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, List, Value
from tqdm import tqdm

from blocklm import hunks, redaction, splits, store, views
from blocklm.changes import Changes
from blocklm.curation import Curated, told
from blocklm.errors import UserError
from blocklm.hunks import hunks_of
from blocklm.redaction import PLACEHOLDERS

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
        "seen_lines": Value("bool"),
    }
)


@dataclass(frozen=True)
class Corpus:
    """Training samples by split; `report` holds the manifest's `corpus` entry."""

    splits: DatasetDict
    report: dict[str, Any]
    cache: str


def load_samples(changes: Changes, curated: Curated, special_tokens: frozenset[str], corpus_dir: Path) -> Corpus:
    """Render the hunks that may teach or ask for one model family, or read the cached result.

    Args:
        changes: what was mined.
        curated: the verdicts on its hunks.
        special_tokens: the model's special tokens; they tell its family, and text that contains one is left out.
        corpus_dir: where corpora are cached.

    Raises:
        UserError: nothing is left to render.
    """
    family = views.family_of(special_tokens)
    settings = {"curated": curated.report["key"], "tokens": sorted(special_tokens)}
    key = store.data_key(hunks, redaction, views, store, sys.modules[__name__], **settings)
    folder = corpus_dir / changes.report["repository"]["name"][:100] / f"samples-{key}"

    def build(ready: Path) -> dict[str, Any]:
        left_out: Counter[str] = Counter()
        parts: list[str] = []
        rows = _sample_rows(changes.dataset, curated.verdicts, family, special_tokens, left_out, parts)
        rendered = store.write_arrow(ready / "rendered.arrow", _batches(rows), SAMPLES)
        divided = store.divide(rendered, parts, splits.NAMES)
        empty = [name for name, split in divided.items() if not len(split)]
        if empty:
            gone = curated.report["hunk_funnel"] + [{"rule": rule, "dropped": n} for rule, n in left_out.items()]
            raise UserError(
                f"nothing is left for {' and '.join(empty)}: {told(gone)}",
                "`python scripts/mine.py RECIPE` says what each rule means; a longer history is needed",
            )
        store.save_splits(divided, ready / "data")
        (ready / "rendered.arrow").unlink()
        return _samples_report(key, family, changes.report, curated.report, left_out, divided)

    return Corpus(*store.read_or_build(folder, build))


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    while some := list(islice(rows, ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(some, SAMPLES.arrow_schema)


def _sample_rows(
    changes: Dataset,
    verdicts: Dataset,
    family: views.Family,
    special_tokens: frozenset[str],
    left_out: Counter[str],
    parts: list[str],
) -> Iterator[dict[str, Any]]:
    """Render every kept hunk and note its split; text with a special token would break a prompt and is counted instead.

    Our own placeholders are special tokens of StarCoder2 and mean there what they mean here.
    """
    breaking = special_tokens - set(PLACEHOLDERS)
    kept = verdicts.data.table.filter(pc.is_null(verdicts.data.table["reason"])).to_pylist()
    by_row = [(row, list(some)) for row, some in groupby(kept, key=itemgetter("row"))]
    chosen = changes.select([row for row, _ in by_row])
    for change, (_, some) in zip(tqdm(chosen, "rendering", unit=" changes", disable=None), by_row, strict=True):
        shared = {key: change[key] for key in ("commit", "path", "language", "seq", "commit_time")}
        source = {key: change[key] for key in ("repo", "commit", "path", "message")}
        all_hunks = hunks_of(change["diff"])
        for verdict in some:
            lines = all_hunks[verdict["hunk"]].lines
            text = "\n".join((change["path"], change["message"], *lines))
            if any(token in text for token in breaking):
                left_out["special_token"] += 1
                continue
            tags = {"weight": verdict["weight"], "seen_lines": verdict["seen_lines"]}
            for sample in views.render_edit(family, **source, number=verdict["hunk"], lines=lines):
                parts.append(verdict["split"])
                yield shared | asdict(sample) | tags


def _samples_report(
    key: str,
    family: views.Family,
    source: dict[str, Any],
    curated: dict[str, Any],
    left_out: Counter[str],
    built: DatasetDict,
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
    return curated | {
        "key": key,
        "changes": source["changes"],
        "family": family.name,
        "left_out": dict(left_out),
        "splits": spans,
    }
