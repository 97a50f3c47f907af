"""Task `which_file`: find the other files that a commit changed, given its subject and the change of one file.

The right paths are among twenty other files that existed too: those that training commits changed most often together
with the shown file, and those nearest to it in the folders. A model chooses by the probability of each path.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from blocklm.corpus import views
from blocklm.corpus.places.co_changes import CoChanges
from blocklm.corpus.prompt_templates import Prompt
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.evaluation.tasks.item import Prompts, TaskItem, item_id

WHICH_FILE = "which_file"
DISTRACTORS = 20
MAX_WANTED = 5


@dataclass(frozen=True, slots=True)
class CommitFiles:
    """The files of a commit.

    Attributes:
        there: code files at the commit's parent.
        touched: all files that the commit changed, also those that are never asked.
    """

    there: frozenset[str]
    touched: frozenset[str]


def file_items(
    commit: Sequence[AnnotatedHunk], prompts: Prompts, files: CommitFiles, together: CoChanges
) -> Iterator[TaskItem]:
    """Make an item of each file of the commit whose partners existed before, if there are enough other files."""
    changed = dict.fromkeys(hunk.text.path for hunk in commit)
    shown: set[str] = set()
    for hunk in commit:
        path = hunk.text.path
        wanted = sorted(other for other in changed if other != path and other in files.there)
        if wanted and path not in shown:
            shown.add(path)
            chance = random.Random(item_id(hunk, WHICH_FILE, 0))
            others = distractors(path, files, together, chance)
            sample = next(views.edit(prompts["edit"], hunk.text), None)
            if len(others) == DISTRACTORS and sample is not None:
                chosen = sorted(chance.sample(wanted, min(MAX_WANTED, len(wanted))))
                yield _item(hunk, sample, chosen, others, prompts)


def distractors(path: str, files: CommitFiles, together: CoChanges, chance: random.Random) -> list[str]:
    """Choose up to twenty files that the commit did not change, at most half of them partners, the rest by folder."""
    free = sorted(files.there - files.touched - {path})
    chance.shuffle(free)
    left = frozenset(free)
    chosen = [other for other in together.partners(path) if other in left][: DISTRACTORS // 2]
    near = sorted(free, key=lambda other: -_shared_folders(path, other))
    return [*chosen, *(other for other in near if other not in chosen)][:DISTRACTORS]


def _shared_folders(path: str, other: str) -> int:
    pairs = zip(PurePosixPath(path).parts[:-1], PurePosixPath(other).parts[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _item(
    hunk: AnnotatedHunk, sample: views.Sample, wanted: Sequence[str], others: Sequence[str], prompts: Prompts
) -> TaskItem:
    text = hunk.text
    head, end = prompts["edit"].up_to_path("edit", repo=text.repo, subject=text.subject)
    return TaskItem(
        id=item_id(hunk, WHICH_FILE, 0),
        task=WHICH_FILE,
        commit=text.commit,
        path=text.path,
        language=hunk.language,
        prompt=Prompt(sample.prompt + sample.completion + head, sample.context),
        truth="".join(f"{path}\n" for path in wanted),
        candidates=tuple(f"{path}{end}" for path in sorted([*wanted, *others])),
        wanted=tuple(f"{path}{end}" for path in wanted),
    )
