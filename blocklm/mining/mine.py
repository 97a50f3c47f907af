"""Mines the repositories of a recipe and joins their changes to one history."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from blocklm import cache
from blocklm.config.mining import MiningArguments
from blocklm.errors import UserError
from blocklm.git.repository import Repository
from blocklm.git.rev_list import Selection
from blocklm.mining.changes import Changes, Rules, describe, load_changes
from blocklm.mining.filters import SWITCHES, FilterLimits
from blocklm.mining.joint import join
from blocklm.mining.landing_times import landing_times
from blocklm.mining.rows_file import without_known
from blocklm.mining.secrets.known import KnownSecrets


def mine(repositories: Sequence[Repository], mining: MiningArguments) -> Changes:
    """Return the changes of all repositories, mined or read from the cache: one history, or with `split_each` several.

    Raises:
        UserError: a history cannot be walked, nothing of it is selected, or a rule to disable is unknown.
    """
    rules = Rules(limits_of(mining), Selection(mining.since, mining.until, mining.max_commits), mining.context_lines)
    corpus_dir = Path(mining.corpus_dir)
    parts = [load_changes(repository, rules, corpus_dir) for repository in repositories]
    return join(parts, corpus_dir) if mining.split_each else combine(parts)


def limits_of(mining: MiningArguments) -> FilterLimits:
    """The filter limits of a recipe.

    Raises:
        UserError: a rule to disable is unknown.
    """
    if unknown := set(mining.disable_rules or ()) - set(SWITCHES):
        raise UserError(
            f"`disable_rules` names no rule that can be off: {sorted(unknown)[0]}",
            f"the rules are {', '.join(SWITCHES)}",
        )
    disabled = tuple(sorted(mining.disable_rules or ()))
    return FilterLimits(mining.max_changed_lines, tuple(mining.paths or ()), tuple(mining.exclude or ()), disabled)


def combine(parts: Sequence[Changes]) -> Changes:
    """Join the changes of all repositories, ordered by landing time; a commit that two of them share counts once.

    A secret of one repository is replaced in all. The landing time of a commit is the latest trusted time up to it in
    its repository's landing order.
    """
    if len(parts) == 1:
        return parts[0]
    dataset = concatenate_datasets([part.dataset for part in parts])
    table = dataset.data.table
    owner: dict[str, int] = {}
    rows: list[tuple[int, int, int, str]] = []  # landing time, repository, row (in landing order there), commit
    for number, part in enumerate(parts):
        own = part.dataset.data.table
        landed = landing_times(own)
        before = sum(len(earlier.dataset) for earlier in parts[:number])
        for row, (seq, sha) in enumerate(zip(own["seq"].to_pylist(), own["commit"].to_pylist(), strict=True), before):
            if owner.setdefault(sha, number) == number:
                rows.append((landed[seq], number, row, sha))
    rows.sort()
    chosen = table.take(pa.array([row for _, _, row, _ in rows], pa.int64()))
    reports = [part.report["repository"] for part in parts]
    key = cache.data_key("mining", parts=[part.report["key"] for part in parts])
    secrets = [secret for part in parts for secret in part.known.secrets]
    known = KnownSecrets.of(parts[0].known.key, secrets, origin=key)
    clean = pa.Table.from_batches((without_known(rows, known)[0] for rows in chosen.to_batches()), chosen.schema)
    seq_of: dict[str, int] = {}
    seqs = pa.array([seq_of.setdefault(sha, len(seq_of)) for *_, sha in rows], pa.int32())
    column = clean.schema.get_field_index("seq")
    combined = Dataset(clean.set_column(column, clean.schema.field(column), seqs))
    report = describe(
        key=key,
        sources=[source for report in reports for source in report["sources"]],
        unreadable={sha: why for report in reports for sha, why in report["unreadable"].items()},
        dataset=combined,
    )
    caches = {part.cache for part in parts}
    return Changes(combined, report, caches.pop() if len(caches) == 1 else "extended", known)
