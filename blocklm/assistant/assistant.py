"""Answers requests with a completed run's model: many in batches, or one streamed to a terminal."""

import logging
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocklm.assistant.prompts import PromptBuilder, Request
from blocklm.assistant.streaming import Terminal
from blocklm.corpus.places.place import FilePiece
from blocklm.corpus.prompt_templates import FAMILY, Prompt
from blocklm.errors import UserError
from blocklm.mining.mine import limits_of
from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.adapter import base_arm
from blocklm.models.generation.decoding import Decoding, Output
from blocklm.models.generation.generate import generate
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import max_positions, special_tokens
from blocklm.models.tokenization.encode import encode
from blocklm.models.tokenization.token_healing import healing_of
from blocklm.runs.completed import CompletedRun

# Lone surrogates: how Python represents bytes that are no UTF-8. JSON can escape them, but tokenizers refuse them.
SURROGATE = re.compile("[\ud800-\udfff]")

if TYPE_CHECKING:
    from blocklm.assistant.file_context import FileContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assistant:
    """Answers requests with the model that a run trained, or with its base.

    Args:
        run: a completed run.
        decoding: how tokens are chosen, and the most tokens of an answer.
        retrieve: maximum number of pieces of the repository's files put before a prompt; 0 by default.

    Raises:
        UserError: the decoding is out of range.
    """

    run: CompletedRun
    decoding: Decoding
    retrieve: int = 0

    def __post_init__(self) -> None:
        if self.decoding.max_new_tokens < 1 or not 0 <= self.decoding.temperature < inf:
            raise UserError(
                "an answer has at least one token, and is drawn at a temperature of at least 0",
                "set `--max_new_tokens` to 1 or more, and `--temperature` to 0 or more",
            )
        if not -(2**63) <= self.decoding.seed < 2**64:
            raise UserError(f"`--seed` {self.decoding.seed} is no number of 64 bits", "give a smaller `--seed`")

    @cached_property
    def tuned(self) -> LoadedModel:
        """The tuned model, in evaluation mode; loaded at first use."""
        tuned = self.run.tuned()
        tuned.model.eval()
        return tuned

    @cached_property
    def prompt_builder(self) -> PromptBuilder:
        """The builder of prompts in the templates that the run was trained with."""
        return PromptBuilder(
            {Path(source["path"]): source["name"] for source in self.run.manifest["repository"]["sources"]},
            {view: FAMILY[name] for view, name in self.run.manifest["corpus"]["prompts"].items()},
            special_tokens(self.run.tokenizer) - set(PLACEHOLDERS),
            limits_of(self.run.recipe.mining),
        )

    @cached_property
    def _file_context(self) -> "FileContext":
        from blocklm.assistant.file_context import FileContext  # seconds of imports, for those who retrieve

        return FileContext(self.run, self.prompt_builder, self.retrieve)

    @property
    def max_prompt_tokens(self) -> int:
        """Maximum tokens of a prompt: the model's context length less the longest answer.

        Raises:
            UserError: the longest answer fills the context.
        """
        context_length = max_positions(self.tuned.model.config) or int(self.run.manifest["plan"]["max_length"])
        if self.decoding.max_new_tokens >= context_length:
            raise UserError(
                f"`--max_new_tokens` {self.decoding.max_new_tokens} leaves no space for a prompt: "
                f"the model reads {context_length} tokens",
                f"lower `--max_new_tokens` to at most {context_length - 1}",
            )
        return context_length - self.decoding.max_new_tokens

    def tokens(self, requests: Sequence[Request]) -> list[list[int]]:
        """Encode the prompts of requests as in training.

        A prompt that is too long loses the beginning of its context, with a warning unless it is asked at a place in a
        file.

        Raises:
            UserError: a prompt is empty or no text, or does not fit even without its context.
        """
        for request in requests:
            if SURROGATE.search(request.prompt.text):
                raise UserError(f"{request.name} holds bytes that are no UTF-8 text", "convert the text to UTF-8")
        worded = [self._with_pieces(request) for request in requests]
        columns: dict[str, Sequence[Any]] = {
            "prompt": [prompt.text for prompt in worded],
            "context": [prompt.context for prompt in worded],
            "suffix": [prompt.suffix for prompt in worded],
            "pieces": [prompt.pieces for prompt in worded],
            "retrieved": [prompt.retrieved for prompt in worded],
            "completion": [""] * len(requests),
            "added": [()] * len(requests),
        }
        prompts = []
        rows = encode(columns, self.run.tokenizer, self.max_prompt_tokens + 1)  # one more for EOS
        for request, encoded in zip(requests, rows, strict=True):
            if encoded is None:
                raise UserError(
                    f"{request.name} does not fit into {self.max_prompt_tokens} tokens, even without its context",
                    "shorten the suffix, path or instruction, or lower `--max_new_tokens`",
                )
            if len(encoded.input_ids) == 1:
                raise UserError(f"{request.name} is empty", "give some text")
            if encoded.trimmed and request.with_pieces is None:  # at a place in a file, this is how an editor asks
                read = len(encoded.input_ids) - 1
                logger.warning("%s: its beginning is left out, %d tokens are read", request.name, read)
            prompts.append(self._with_files(request, encoded.input_ids[:-1]))
        return prompts

    def _with_pieces(self, request: Request) -> Prompt:
        """Word a request with retrieved pieces of files, if its template has a place for them."""
        if not self.retrieve or request.with_pieces is None:
            return request.prompt
        near = self._file_context.shown(request.prompt.text)
        return request.with_pieces([FilePiece(hit.path, f"{hit.text}\n") for hit in near])

    def _with_files(self, request: Request, ids: list[int]) -> list[int]:
        """Insert retrieved pieces of files between the tokens that begin every text (BOS) and any other prompt."""
        if not self.retrieve or request.with_pieces is not None:
            return ids
        head = len(self.run.tokenizer("").input_ids)
        limit = min(self.run.recipe.exam.exam_context_tokens, self.max_prompt_tokens - len(ids))
        return ids[:head] + self._file_context.tokens(request.prompt.text, limit) + ids[head:]

    def answers(self, requests: Sequence[Request], base: bool = False) -> list[Output]:
        """Answer many requests in batches, with the base model if `base`."""
        tokens, lines = self.tokens(requests), [request.lines for request in requests]
        with self._open(base) as loaded:
            return generate(loaded, tokens, self.decoding, lines, heals=[request.heals for request in requests])

    def stream_answer(self, request: Request, base: bool = False) -> Output:
        """Answer one request, with the base model if `base`, and write the answer to stdout as it grows."""
        return self.stream_continuation(self.tokens([request])[0], base, request.lines, heals=request.heals)

    def stream_continuation(
        self,
        tokens: Sequence[int],
        base: bool = False,
        lines: int | None = None,
        stops: tuple[str, ...] = (),
        heals: bool = False,
    ) -> Output:
        """Continue a sequence of tokens and write the continuation to stdout as it grows.

        Args:
            tokens: token ids of the prompt.
            base: whether the base model answers; False by default.
            lines: maximum lines of the continuation; None for no limit.
            stops: texts that end the continuation and are not part of it.
            heals: whether it may begin within a token; False by default.
        """
        decoding = replace(self.decoding, stops=stops)
        repeated = len(healing_of(self.run.tokenizer).heal(tokens).text) if heals else 0
        terminal = Terminal(self.run.tokenizer, lines, stops=stops, repeated=repeated)
        with self._open(base) as loaded:
            (output,) = generate(loaded, [tokens], decoding, [lines], streamer=terminal, heals=[heals])
        if not output.text:
            logger.info("the model has nothing to write here")
        return output

    def _open(self, base: bool) -> AbstractContextManager[LoadedModel]:
        return base_arm(self.tuned, self.run.source.base) if base else self.tuned.opened()
