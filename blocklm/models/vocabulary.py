"""Stores what the corpus needs of a model's tokenizer, so that mining loads neither torch nor transformers.

The first use of a model loads its tokenizer with transformers and writes a file in `corpus_dir/.tokenizers`. Later uses
read that file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from blocklm import cache
from blocklm.files import digest, replace_file
from blocklm.models.pretrained import find_folder, load_tokenizer, load_tokenizer_alone, model_config, special_tokens

LARGEST_FILE = 64 << 20  # bytes; larger files are weights, not a tokenizer's
READERS = ("transformers", "tokenizers")  # libraries that decide what a tokenizer's files mean


@dataclass(frozen=True)
class Vocabulary:
    """What the corpus needs of a model's tokenizer.

    Attributes:
        special_tokens: tokens that may not be read out of repository text, and that identify the model's prompt family.
        start_tokens: number of tokens that the tokenizer puts before every text (BOS).
        split_special_tokens: whether special tokens in a text are read as ordinary text.
        backend: tokenizer in the JSON format of the library `tokenizers`.
    """

    special_tokens: tuple[str, ...]
    start_tokens: int
    split_special_tokens: bool
    backend: str

    @classmethod
    def of(cls, model: Mapping[str, Any], trust_remote_code: bool, corpus_dir: Path) -> Self:
        """Read the stored vocabulary of a model, or load its tokenizer and store it.

        Args:
            model: recipe keys of TRL's `ModelConfig`.
            trust_remote_code: whether code that comes with the model may run.
            corpus_dir: folder of cached corpora.

        Raises:
            UserError: the model cannot be found, its keys contradict each other, or its tokenizer does not suit it.
        """
        path = _path(model, trust_remote_code, corpus_dir)
        if path is not None and (stored := cls._read(path)) is not None:
            return stored

        folder = _folder(model)
        tokenizer = load_tokenizer_alone(folder) if folder is not None else None
        if tokenizer is None:
            tokenizer = load_tokenizer(model_config(dict(model)), trust_remote_code)
        loaded = cls(
            special_tokens=tuple(sorted(special_tokens(tokenizer))),
            start_tokens=len(tokenizer("").input_ids),
            split_special_tokens=tokenizer.split_special_tokens,
            backend=tokenizer.backend_tokenizer.to_str(),
        )
        path = _path(model, trust_remote_code, corpus_dir)  # only now a model from the hub is in the cache
        if path is not None:
            replace_file(path, json.dumps({"digest": loaded.digest, "vocabulary": asdict(loaded)}))
        return loaded

    @classmethod
    def _read(cls, path: Path) -> Self | None:
        """Read the vocabulary in a file; return None if it is missing or damaged."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            content = stored["vocabulary"]
            vocabulary = cls(**content | {"special_tokens": tuple(content["special_tokens"])})
            return vocabulary if vocabulary.digest == stored["digest"] else None
        except (*cache.DAMAGED, TypeError):
            return None

    @property
    def digest(self) -> str:
        """A short hash of all fields."""
        return sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer, which splits texts into the same tokens as that of transformers."""
        tokenizer = Tokenizer.from_str(self.backend)
        tokenizer.encode_special_tokens = self.split_special_tokens
        return tokenizer


def _path(model: Mapping[str, Any], trust_remote_code: bool, corpus_dir: Path) -> Path | None:
    """Name the file for the vocabulary of a model after a hash of the model's files; None if these are not here."""
    folder = _folder(model)
    if folder is None:
        return None
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_size <= LARGEST_FILE]
    key = cache.data_key(
        "models.vocabulary",
        "models.pretrained",
        files={path.name: digest(path) for path in files},
        versions=[version(name) for name in READERS],
        trust_remote_code=trust_remote_code,
    )
    return corpus_dir / ".tokenizers" / f"{key}.json"


def _folder(model: Mapping[str, Any]) -> Path | None:
    return find_folder(str(model["model_name_or_path"]), model.get("model_revision") or "main")
