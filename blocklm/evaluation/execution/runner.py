"""Runs the repository's own check on edits: each in its place in the commit's tree, in the sandbox, none twice."""

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

TAIL = 500  # characters kept of a command's output


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that replaces the truth of a question."""

    question: GenerationTask
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the check on an edit.

    Attributes:
        kind: `passed`, `failed`, the limit that was exceeded (`timeout`, `memory`, `output`), `no tree` if the commit
            cannot be checked out, or `no place` if the file does not contain the replaced text exactly once.
        output: the end of the command's output; empty if it did not run.
    """

    kind: str
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether the command succeeded."""
        return self.kind == "passed"


@dataclass(frozen=True)
class Trial:
    """Runs one command on edited trees of commits.

    The commit's other changes are in the tree, so that only the edit is tested.

    Attributes:
        repositories: the repositories with the commits.
        command: the shell command.
        limits: resource limits of each run.
        binds: folders of the host that the command may read.
        answers: stored verdicts; new ones are added.
    """

    repositories: Sequence[Repository]
    command: str
    limits: ResourceLimits
    binds: Sequence[Path]
    answers: Answers

    def verdicts(self, edits: Sequence[Edit], name: str) -> list[Verdict]:
        """Return the verdict on each edit, in their order.

        Args:
            edits: the edits, of which some may be equal.
            name: description for the progress bar.
        """
        verdicts: dict[Edit, Verdict] = {}
        left: list[Edit] = []
        for edit in dict.fromkeys(edits):
            known = self.answers.get(self._edit_key(edit))
            if known is None:
                left.append(edit)
            else:
                verdicts[edit] = Verdict(*known)
        by_commit = groupby(sorted(left, key=_commit), key=_commit)
        with tqdm(total=len(left), desc=name, unit=" edits", disable=None) as progress:
            for commit, of_commit in by_commit:
                with tree_of(self.repositories, commit) as tree:
                    for edit in of_commit:
                        verdict = verdicts[edit] = Verdict("no tree") if tree is None else self._check(tree, edit)
                        self.answers.add(self._edit_key(edit), (verdict.kind, verdict.output))
                        progress.update()
        return [verdicts[edit] for edit in edits]

    def _check(self, tree: Tree, edit: Edit) -> Verdict:
        path, truth = str(edit.question.path), str(edit.question.truth)
        place = tree.place(path, truth)
        if place is None:
            return Verdict("no place")
        text = place.filled(edit.text)
        # Edits that differ only in their last line end give the same tree, as do all true edits of a commit.
        tree_key = self._key("tree", _commit(edit), *([] if text == place.filled(truth) else [path, text]))
        known = self.answers.get(tree_key)
        if known is not None:
            return Verdict(*known)
        with tree.holding(path, text) as folder:
            outcome = run(["sh", "-c", self.command], folder, self.limits, self.binds)
        kind = "passed" if outcome.passed else "failed" if outcome.ended == "exit" else outcome.ended
        verdict = Verdict(kind, outcome.tail[-TAIL:])
        self.answers.add(tree_key, (verdict.kind, verdict.output))
        return verdict

    def _edit_key(self, edit: Edit) -> str:
        question = edit.question
        return self._key("edit", _commit(edit), str(question.path), str(question.truth), edit.text)

    def _key(self, *parts: str) -> str:
        return key_of(self.command, repr((self.limits, [str(bind) for bind in self.binds], *parts)))


def count_failures(verdicts: Sequence[Verdict]) -> Mapping[str, int]:
    """Count the verdicts of each kind but `passed`."""
    kinds = [verdict.kind for verdict in verdicts if not verdict.passed]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _commit(edit: Edit) -> str:
    return str(edit.question.commit)
