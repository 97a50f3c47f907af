"""Finds the pieces of the repository's present files nearest to a prompt, and words them as files read in training."""

import logging
from functools import cached_property
from pathlib import Path

from blocklm.assistant.prompts import PromptBuilder
from blocklm.mining.mine import limits_of
from blocklm.models.tokenization.encode import fit_texts
from blocklm.retrieval.index import file_index
from blocklm.retrieval.parent_files import is_shown, lines_of
from blocklm.retrieval.search import Hit, Index
from blocklm.runs.completed import CompletedRun

SPARE = 4  # factor by which more pieces are searched than wanted, because the prompt may already show some

logger = logging.getLogger(__name__)


class FileContext:
    """Searches the files at the head of a run's repositories for each prompt.

    Args:
        run: the completed run.
        builder: builder of its prompts.
        count: maximum number of pieces per prompt.
    """

    def __init__(self, run: CompletedRun, builder: PromptBuilder, count: int) -> None:
        self._run, self._builder, self._count = run, builder, count

    @cached_property
    def _index(self) -> Index:
        mining = self._run.recipe.mining
        repositories, changes = self._run.history_now
        place = Path(mining.corpus_dir)
        return file_index(repositories, changes, limits_of(mining), self._run.recipe.retrieval, place)

    def pieces(self, prompt: str) -> list[Hit]:
        """Find the pieces of files that are nearest to a prompt and not part of it, the nearest first."""
        shown = lines_of(prompt)
        near = self._index.search(prompt, SPARE * self._count)
        return [hit for hit in near if not is_shown(hit.text, shown)][: self._count]

    def shown(self, prompt: str) -> list[Hit]:
        """Find the pieces that may stand in a prompt, the nearest last, and log where they are."""
        near = [hit for hit in self.pieces(prompt) if not self._builder.broken_by(hit.path, hit.text)][::-1]
        logger.info("given before it: %s", ", ".join(f"{hit.path}:{hit.line}" for hit in near) or "nothing fits")
        return near

    def tokens(self, prompt: str, limit: int) -> list[int]:
        """Encode the nearest pieces of files, the nearest last, as many as fit into `limit` tokens."""
        texts = [self._builder.file(hit.repo, hit.path, hit.text) for hit in reversed(self.shown(prompt))]
        return fit_texts(texts, self._run.tokenizer, limit)
