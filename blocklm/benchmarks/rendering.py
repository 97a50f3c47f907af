"""Measures how a curated history becomes samples: time, memory and disk, and the prompts of those that are drawn.

Of a sample at a place in a file the corpus stores the place alone. The baseline is a corpus that stores all prompts.
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

from blocklm.benchmarks.mining import RULES
from blocklm.benchmarks.processes import Measurement, measure_in_process
from blocklm.config.mining import MiningArguments
from blocklm.config.sampling import PLACE_VIEWS, VIEWS, SamplingArguments, parse_sampling
from blocklm.corpus.build import Corpus, load_samples
from blocklm.corpus.curation import curate
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import FAMILY, ModelPrompts
from blocklm.corpus.splits import spread_over_commits
from blocklm.git.repository import Repository, open_repository
from blocklm.mining.changes import load_changes
from blocklm.mining.snapshot import files_at

DRAWN = 2000  # samples whose prompts are built
AT_ONCE = 1000  # as they are encoded
LENGTH = 1024  # tokens
SEED = 0


def rendering_table(paths: list[Path], rounds: int) -> Iterator[str]:
    """Yield the lines of a table, one repository after the other."""
    for path in paths:
        repository = open_repository(path, path)
        rendered: list[Measurement] = []
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            for number in range(rounds):
                corpus_dir = Path(folder) / str(number)
                # In a process of its own too: a child's peak memory begins at that of the process that started it.
                measure_in_process(_prepare, repository, corpus_dir)
                rendered.append(measure_in_process(_render, repository, corpus_dir))
            filled = [measure_in_process(_fill, repository, corpus_dir) for _ in range(rounds)]
            corpus = _corpus(repository, corpus_dir)
            stored = sum(file.stat().st_size for file in _folder(corpus).rglob("*") if file.is_file())
            drawn = _drawn(corpus)
            prompts = _prompt_bytes(corpus, drawn)
        samples = sum(len(split) for split in corpus.splits.values())
        places = sum(_at_places(split) for split in corpus.splits.values())
        with_prompts = stored + places * prompts / len(drawn)
        yield f"{repository.name} at {repository.head[:12]}, median of {rounds} rounds"
        yield f"  {samples:,} samples of all views, {places:,} of them places: {_cost(rendered)}"
        yield (
            f"  {stored / 1e6:,.0f} MB on disk; with the prompts of all places {with_prompts / 1e6:,.0f} MB, "
            f"{with_prompts / stored:.1f} times as much"
        )
        seconds = statistics.median(run.seconds for run in filled)
        yield f"  prompts of {len(drawn):,} drawn places: {_cost(filled)}, {1000 * seconds / len(drawn):.1f} ms each"


def _cost(runs: list[Measurement]) -> str:
    seconds = statistics.median(run.seconds for run in runs)
    return f"{seconds:.1f} s, {max(run.mebibytes for run in runs):,.0f} MiB above the imports"


def _prepare(repository: Repository, corpus_dir: Path) -> None:
    """Mine and curate, which the rendering then reads from the cache."""
    changes = load_changes(repository, RULES, corpus_dir)
    curated = curate(changes, MiningArguments(corpus_dir=str(corpus_dir)))
    files_at([repository], curated.report["cut"], RULES.limits, corpus_dir, changes.known)


def _corpus(repository: Repository, corpus_dir: Path) -> Corpus:
    changes = load_changes(repository, RULES, corpus_dir)
    curated = curate(changes, MiningArguments(corpus_dir=str(corpus_dir)))
    files = files_at([repository], curated.report["cut"], RULES.limits, corpus_dir, changes.known)
    prompts = ModelPrompts(dict.fromkeys(VIEWS, FAMILY["plain"]), frozenset())
    places = PlaceReader(changes.dataset, [repository], changes.known, prompts)
    return load_samples(changes, curated, files, parse_sampling(SamplingArguments()), places, corpus_dir)


def _folder(corpus: Corpus) -> Path:
    return corpus.folder / f"samples-{corpus.report['key']}"


def _render(repository: Repository, corpus_dir: Path) -> None:
    _corpus(repository, corpus_dir)


def _fill(repository: Repository, corpus_dir: Path) -> None:
    corpus = _corpus(repository, corpus_dir)
    _prompt_bytes(corpus, _drawn(corpus))


def _drawn(corpus: Corpus) -> Dataset:
    """Choose training samples at places, spread over the commits as a run's are."""
    train = corpus.splits["train"]
    train = train.select([row for row, view in enumerate(train["view"][:]) if view in PLACE_VIEWS])
    return train.select(sorted(spread_over_commits(train["commit"][:], DRAWN, DRAWN, SEED)))


def _prompt_bytes(corpus: Corpus, drawn: Dataset) -> int:
    """Build the prompts of samples, and count their bytes."""
    parts = (drawn[start : start + AT_ONCE] for start in range(0, len(drawn), AT_ONCE))
    return sum(len(prompt.encode()) for part in parts for prompt in corpus.places.fill(part, LENGTH)["prompt"])


def _at_places(split: Dataset) -> int:
    return sum(view in PLACE_VIEWS for view in split["view"][:])
