"""A finished run at work: requests become prompts, and prompts answers, one streamed to a terminal or many in batches."""

import logging
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from blocklm.assistant.prompts import PromptBuilder, Request
from blocklm.assistant.streaming import Terminal
from blocklm.corpus.prompt_templates import FAMILY
from blocklm.errors import UserError
from blocklm.mining.mine import limits_of
from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.adapter import base_arm
from blocklm.models.generation import Decoding, Output, generate
from blocklm.models.loading import positions, special_tokens
from blocklm.models.tokenization import encode
from blocklm.runs.completed import CompletedRun

# Halves of characters: how Python shows bytes that are no UTF-8, and what JSON can escape; tokenizers do not take them.
SURROGATE = re.compile("[\ud800-\udfff]")

if TYPE_CHECKING:
    from blocklm.assistant.file_context import FileContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assistant:
    """A run's result that answers, or its base.

    Args:
        run: that went to its end.
        decoding: how tokens are chosen, and how many at most.
        retrieve: pieces of the repository's files that stand before a prompt, as far as there is room.

    Raises:
        UserError: no answer can be given that way.
    """

    run: CompletedRun
    decoding: Decoding
    retrieve: int = 0

    def __post_init__(self) -> None:
        if self.decoding.max_new_tokens < 1 or not 0 <= self.decoding.temperature < inf:
            raise UserError(
                "an answer has at least one token, and is drawn at a temperature of at least 0",
                "mend `--max_new_tokens` or `--temperature`",
            )
        if not -(2**63) <= self.decoding.seed < 2**64:
            raise UserError(f"`--seed` {self.decoding.seed} is no number of 64 bits", "give a smaller one")

    @cached_property
    def model(self) -> PreTrainedModel:
        """What the run saved; loaded when first asked."""
        return self.run.tuned().eval()

    @cached_property
    def prompt_builder(self) -> PromptBuilder:
        """The run's own prompts."""
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
    def room(self) -> int:
        """Tokens that a prompt may have: what the model can read, less what it is to write.

        Raises:
            UserError: nothing is left.
        """
        reach = positions(self.model.config) or int(self.run.manifest["plan"]["max_length"])
        if self.decoding.max_new_tokens >= reach:
            raise UserError(
                f"`--max_new_tokens` {self.decoding.max_new_tokens} leaves no room for a prompt: "
                f"the model reads {reach} tokens",
                "give less",
            )
        return reach - self.decoding.max_new_tokens

    def tokens(self, requests: Sequence[Request]) -> list[list[int]]:
        """The token ids of prompts, as in training; what is too long loses the beginning of its context, and is told.

        Raises:
            UserError: a prompt is empty or no text, or there is no room for what makes it a prompt.
        """
        for request in requests:
            if SURROGATE.search(request.prompt.text):
                raise UserError(f"{request.name} holds bytes that are no UTF-8 text", "leave them out")
        columns: dict[str, Sequence[Any]] = {
            "prompt": [request.prompt.text for request in requests],
            "context": [request.prompt.context for request in requests],
            "completion": [""] * len(requests),
            "added": [()] * len(requests),
        }
        found = []
        rows = encode(columns, self.run.tokenizer, self.room + 1)  # 1 is for EOS
        for request, encoded in zip(requests, rows, strict=True):
            if encoded is None:
                raise UserError(
                    f"{request.name} is too long for the {self.room} tokens that are left to it",
                    "shorten what is not its context, or lower `--max_new_tokens`",
                )
            if len(encoded.input_ids) == 1:
                raise UserError(f"{request.name} is empty", "give some text")
            if encoded.trimmed:
                logger.warning("%s: its beginning is left out, %d tokens are read", request.name, self.room)
            found.append(self._with_files(request, encoded.input_ids[:-1]))
        return found

    def _with_files(self, request: Request, ids: list[int]) -> list[int]:
        """The prompt, after what begins every text and what is retrieved for it."""
        if not self.retrieve:
            return ids
        head = len(self.run.tokenizer("").input_ids)
        room = min(self.run.recipe.exam.exam_context_tokens, self.room - len(ids))
        return ids[:head] + self._file_context.tokens(request.prompt.text, room) + ids[head:]

    def answers(self, requests: Sequence[Request], base: bool = False) -> list[Output]:
        """Answers to many requests, in batches; of the base model if `base`."""
        tokens, lines = self.tokens(requests), [request.lines for request in requests]
        with base_arm(self.model, self.run.base) if base else nullcontext(self.model) as model:
            return generate(model, self.run.tokenizer, tokens, lines, self.decoding, self.run.source.precision.dtype)

    def streamed(self, request: Request, base: bool = False) -> Output:
        """The answer to one request, on stdout as it grows; of the base model if `base`."""
        return self.spoken(self.tokens([request])[0], base, request.lines)

    def spoken(
        self, tokens: Sequence[int], base: bool = False, lines: int | None = None, stops: tuple[str, ...] = ()
    ) -> Output:
        """What comes after some tokens, as far as `lines` or `stops`, on stdout as it grows; of the base model if `base`."""
        tokenizer, dtype = self.run.tokenizer, self.run.source.precision.dtype
        decoding, shown = replace(self.decoding, stops=stops), Terminal(tokenizer, lines, stops=stops)
        with base_arm(self.model, self.run.base) if base else nullcontext(self.model) as model:
            (output,) = generate(model, tokenizer, [tokens], [lines], decoding, dtype, streamer=shown)
        if not output.text:
            logger.info("the model has nothing to write here")
        return output
