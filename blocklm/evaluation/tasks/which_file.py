"""Which file next: the subject and one file's change give the other files that the commit changed.

The right paths are among twenty others that stood there too: those that training commits changed most often together with the
shown file, and those nearest to it in the folders. A model chooses by the probability of each path.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from blocklm.corpus import views
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.evaluation.tasks.item import Prompts, TaskItem, item_id

WHICH_FILE = "which_file"
DISTRACTORS = 20
MAX_WANTED = 5
MAX_FILES = 50  # of a commit that tells what belongs together


class CoChanges:
    """Which files some commits changed together.

    Args:
        commits: the paths of each.
    """

    def __init__(self, commits: Iterable[AbstractSet[str]]) -> None:
        self._commits = [paths for paths in commits if 1 < len(paths) <= MAX_FILES]
        self._of_path: dict[str, list[int]] = defaultdict(list)
        for at, paths in enumerate(self._commits):
            for path in paths:
                self._of_path[path].append(at)

    def partners(self, path: str) -> list[str]:
        """The others that were changed with a file, the most frequent first."""
        counts = Counter(other for at in self._of_path.get(path, ()) for other in self._commits[at] if other != path)
        return sorted(counts, key=lambda other: (-counts[other], other))


@dataclass(frozen=True, slots=True)
class CommitFiles:
    """What is known of one commit's files.

    Args:
        there: files of code that stood at its parent.
        touched: every file that it changed, those too that nobody is asked for.
    """

    there: frozenset[str]
    touched: frozenset[str]


def file_items(
    commit: Sequence[AnnotatedHunk], prompts: Prompts, scene: CommitFiles, together: CoChanges
) -> Iterator[TaskItem]:
    """One item per file of the commit whose partners stood there, none where there are too few files to choose among."""
    asked = dict.fromkeys(lesson.text.path for lesson in commit)
    shown: set[str] = set()
    for lesson in commit:
        path = lesson.text.path
        wanted = sorted(other for other in asked if other != path and other in scene.there)
        if wanted and path not in shown:
            shown.add(path)
            chance = random.Random(item_id(lesson, WHICH_FILE, 0))
            others = distractors(path, scene, together, chance)
            sample = next(views.edit(prompts["edit"], lesson.text), None)
            if len(others) == DISTRACTORS and sample is not None:
                some = sorted(chance.sample(wanted, min(MAX_WANTED, len(wanted))))
                yield _item(lesson, sample, some, others, prompts)


def distractors(path: str, scene: CommitFiles, together: CoChanges, chance: random.Random) -> list[str]:
    """Twenty files that the commit left alone, if there are so many: half of them partners as far as there are some."""
    free = sorted(scene.there - scene.touched - {path})
    chance.shuffle(free)
    left = frozenset(free)
    chosen = [other for other in together.partners(path) if other in left][: DISTRACTORS // 2]
    near = sorted(free, key=lambda other: -_shared_folders(path, other))
    return [*chosen, *(other for other in near if other not in chosen)][:DISTRACTORS]


def _shared_folders(one: str, other: str) -> int:
    pairs = zip(PurePosixPath(one).parts[:-1], PurePosixPath(other).parts[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _item(
    lesson: AnnotatedHunk, sample: views.Sample, wanted: Sequence[str], others: Sequence[str], prompts: Prompts
) -> TaskItem:
    text = lesson.text
    head, end = prompts["edit"].up_to_path("edit", repo=text.repo, subject=text.subject)
    return TaskItem(
        id=item_id(lesson, WHICH_FILE, 0),
        task=WHICH_FILE,
        commit=text.commit,
        path=text.path,
        language=lesson.language,
        prompt=sample.prompt + sample.completion + head,
        context=sample.context,
        truth="".join(f"{path}\n" for path in wanted),
        candidates=tuple(f"{path}{end}" for path in sorted([*wanted, *others])),
        wanted=tuple(f"{path}{end}" for path in wanted),
    )
