"""Explains why a file or a commit was kept or dropped, and which recipe key would change that."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from blocklm.corpus.curation import Curated
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.mining.filters import RULE

COMMIT = re.compile(r"[0-9a-f]{6,40}")
CHANGES_SHOWN = 50


def explain(changes: Changes, curated: Curated, wanted: str) -> Iterator[str]:
    """Yield one line per change of a path or commit, newest first, then one per rule that dropped something.

    Args:
        changes: mined changes.
        curated: verdicts on their hunks.
        wanted: a file, a folder with everything below it, or at least six digits of a commit.

    Raises:
        UserError: the history has no such path or commit.
    """
    table = changes.dataset.data.table
    rows = pc.indices_nonzero(_matches(table, wanted)).to_pylist()
    if not rows:
        raise UserError(
            f"`--explain` {wanted}: no selected commit has that name or changes that path",
            "give a path from the repository's top folder, or at least six digits of a commit",
        )
    verdicts = defaultdict(list)
    judged = curated.verdicts.data.table
    for verdict in judged.filter(pc.is_in(judged["row"], pa.array(rows, pa.int32()))).to_pylist():
        verdicts[verdict["row"]].append(verdict)
    reasons: Counter[str] = Counter()
    shown = rows[: -CHANGES_SHOWN - 1 : -1]
    for row in rows:
        for reason in _reasons(changes.dataset[row], verdicts[row]):
            reasons[reason] += 1
    for row in shown:
        yield _change_line(changes.dataset[row], verdicts[row])
    if len(rows) > len(shown):
        yield f"and {len(rows) - len(shown)} older changes"
    for reason, count in reasons.most_common():
        rule = RULE[reason]
        key = rule.key and (
            f"`disable_rules: [{reason}]` keeps it" if rule.key == "disable_rules" else f"see `{rule.key}`"
        )
        yield f"{count:6d}  {reason} ({rule.level}): {rule.why}; {key or 'no key changes that'}"


def _matches(table: pa.Table, wanted: str) -> pa.ChunkedArray:
    if COMMIT.fullmatch(wanted):
        return pc.starts_with(table["commit"], wanted)
    path = wanted.removeprefix("./").rstrip("/")
    under_path = pc.or_(pc.equal(table["path"], path), pc.starts_with(table["path"], f"{path}/"))
    return pc.fill_null(pc.or_(under_path, pc.equal(table["old_path"], path)), False)


def _reasons(change: dict[str, Any], verdicts: list[dict[str, Any]]) -> list[str]:
    if change["drop_reason"]:
        return [change["drop_reason"]]
    return [why for why in (*change["hunk_reasons"], *(verdict["reason"] for verdict in verdicts)) if why]


def _change_line(change: dict[str, Any], verdicts: list[dict[str, Any]]) -> str:
    label = f"{change['commit'][:12]} {change['commit_time']:%Y-%m-%d} {change['path'] or ''}".rstrip()
    if change["drop_reason"]:
        return f"{label}: dropped, {change['drop_reason']}"
    kept = [verdict for verdict in verdicts if verdict["reason"] is None]
    dropped = ", ".join(f"{count} {why}" for why, count in Counter(_reasons(change, verdicts)).items())
    weight = f", weight {kept[0]['weight']:.2g}" if kept and kept[0]["weight"] < 1 else ""
    hunks = f"{len(kept)} of {len(change['hunk_reasons'])} hunks kept"
    destination = f" for {kept[0]['split']}{weight}" if kept else ""
    return f"{label}: {hunks}{destination}{f'; dropped: {dropped}' if dropped else ''}"
