"""What the server knows of a run's repository beside the request: which file is open, and related pieces of others."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from blocklm.config.retrieval import NO_MODEL
from blocklm.corpus.places.place import FilePiece
from blocklm.mining.mine import limits_of
from blocklm.retrieval.index import file_index
from blocklm.retrieval.parent_files import is_shown, lines_of
from blocklm.retrieval.search import Index
from blocklm.runs.completed import CompletedRun
from blocklm.serving.path_finder import FilePlace, PathFinder

SPARE = 4  # factor by which more pieces are searched than shown, because the request may show some already
ASKED_LINES = 20  # whole lines before the cursor that are searched for; typing within a line changes none of them
REMEMBERED = 16  # files whose pieces are kept


class OwnContext:
    """Finds paths and pieces in the repositories of a run, at their present heads.

    Args:
        run: the run.
        paths: whether files are recognised by their lines.
        pieces: maximum number of pieces of other files for a request; 0 for none.
    """

    def __init__(self, run: CompletedRun, paths: bool, pieces: int) -> None:
        self._run, self._paths, self._pieces = run, paths, pieces
        self._shown: dict[FilePlace | None, list[FilePiece]] = {}

    def prepare(self) -> None:
        """Read the repositories now, rather than at the first request.

        Raises:
            UserError: a repository cannot be opened, or has no files to search.
        """
        if self._paths:
            _ = self._finder
        if self._pieces:
            _ = self._index

    def place_of(self, before: str, after: str) -> FilePlace | None:
        """Find the file with the text around a cursor; None if it is not recognised."""
        return self._finder.find(before, after) if self._paths else None

    def pieces_near(self, file: FilePlace | None, before: str, after: str) -> list[FilePiece]:
        """Find pieces of files that are related to the lines before a cursor, the nearest last.

        Pieces that were shown for the same file stay as long as they are among the nearest, because other pieces would
        change the beginning of the prompt, which the model would have to read again.
        """
        if not self._pieces:
            return []
        lines = before.split("\n")
        question = "\n".join(lines[-1 - ASKED_LINES : -1]) or lines[-1]
        shown = lines_of(f"{before}\n{after}")
        near = [
            FilePiece(hit.path, f"{hit.text}\n")
            for hit in self._index.search(question, SPARE * self._pieces)
            if not is_shown(hit.text, shown)
        ]
        kept = [piece for piece in self._shown.pop(file, []) if piece in near]
        new = [piece for piece in near if piece not in kept][: self._pieces - len(kept)]
        self._shown[file] = chosen = [*kept, *reversed(new)]
        while len(self._shown) > REMEMBERED:
            self._shown.pop(next(iter(self._shown)))
        return list(chosen)

    @cached_property
    def _finder(self) -> PathFinder:
        return PathFinder.of_heads(self._run.history_now[0])

    @cached_property
    def _index(self) -> Index:
        """An index of words alone: to embed a question would take longer than the rest of a request."""
        recipe = self._run.recipe
        repositories, changes = self._run.history_now
        keys = replace(recipe.retrieval, embedding_model=NO_MODEL)
        return file_index(repositories, changes, limits_of(recipe.mining), keys, Path(recipe.mining.corpus_dir))
