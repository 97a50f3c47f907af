"""Edits put to the repository's own check: each in its place in the commit's tree, in the sandbox, none twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.execution.limits import ResourceLimits
from blocklm.evaluation.execution.sandbox import run
from blocklm.evaluation.execution.worktree import Tree, tree_of
from blocklm.evaluation.questions import GenerationTask
from blocklm.git.repository import Repository

TAIL = 500  # characters kept of what a command said


@dataclass(frozen=True, slots=True)
class Edit:
    """What is written in the place of a question's truth."""

    question: GenerationTask
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an edit.

    `kind` is `passed`, `failed`, the limit that it exceeded (`timeout`, `memory`, `output`), `no tree` where the commit cannot
    be checked out, or `no place` where the text that it replaces does not stand in the file exactly once.
    """

    kind: str
    said: str = ""

    @property
    def passed(self) -> bool:
        """Whether the command ended well."""
        return self.kind == "passed"


@dataclass(frozen=True)
class Trial:
    """One command over the trees of commits.

    All that the commit changed elsewhere stands there as the commit has it: only what was written is on trial.

    Args:
        repositories: with the commits.
        command: for a shell.
        limits: of each run.
        binds: folders of the host that it may read.
        answers: what was tried before.
    """

    repositories: Sequence[Repository]
    command: str
    limits: ResourceLimits
    binds: Sequence[Path]
    answers: Answers

    def verdicts(self, edits: Sequence[Edit], name: str) -> list[Verdict]:
        """The verdict on each edit, in their order.

        Args:
            edits: some may be equal.
            name: what the progress bar says.
        """
        found: dict[Edit, Verdict] = {}
        left: list[Edit] = []
        for edit in dict.fromkeys(edits):
            known = self.answers.get(self._asked(edit))
            if known is None:
                left.append(edit)
            else:
                found[edit] = Verdict(*known)
        by_commit = groupby(sorted(left, key=_commit), key=_commit)
        with tqdm(total=len(left), desc=name, unit=" edits", disable=None) as progress:
            for commit, some in by_commit:
                with tree_of(self.repositories, commit) as tree:
                    for edit in some:
                        found[edit] = Verdict("no tree") if tree is None else self._tried(tree, edit)
                        self.answers.add(self._asked(edit), (found[edit].kind, found[edit].said))
                        progress.update()
        return [found[edit] for edit in edits]

    def _tried(self, tree: Tree, edit: Edit) -> Verdict:
        path, truth = str(edit.question.path), str(edit.question.truth)
        place = tree.place(path, truth)
        if place is None:
            return Verdict("no place")
        text = place.filled(edit.text)
        # Edits that differ at the ends of their lines alone, and all true edits of a commit, make one tree.
        same = self._named("tree", _commit(edit), *([] if text == place.filled(truth) else [path, text]))
        known = self.answers.get(same)
        if known is not None:
            return Verdict(*known)
        with tree.holding(path, text) as folder:
            outcome = run(["sh", "-c", self.command], folder, self.limits, self.binds)
        kind = "passed" if outcome.passed else "failed" if outcome.ended == "exit" else outcome.ended
        verdict = Verdict(kind, outcome.tail[-TAIL:])
        self.answers.add(same, (verdict.kind, verdict.said))
        return verdict

    def _asked(self, edit: Edit) -> str:
        question = edit.question
        return self._named("edit", _commit(edit), str(question.path), str(question.truth), edit.text)

    def _named(self, *parts: str) -> str:
        return key_of(self.command, repr((self.limits, [str(bind) for bind in self.binds], *parts)))


def counted(verdicts: Sequence[Verdict]) -> Mapping[str, int]:
    """How many there are of each kind, those that passed left out."""
    kinds = [verdict.kind for verdict in verdicts if not verdict.passed]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _commit(edit: Edit) -> str:
    return str(edit.question.commit)
