"""Continues one prompt at a time with a base model and one of its adapters, in this process."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.generation.generate import generation_config
from blocklm.models.generation.healed_beginnings import HealedBeginnings
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import special_tokens
from blocklm.models.tokenization.token_healing import HealedPrompt, healing_of
from blocklm.serving.engines.answer_reader import AnswerReader
from blocklm.serving.engines.growing import Growing, Listener
from blocklm.serving.engines.prompt_cache import PromptCaches, can_be_cut
from blocklm.serving.question import Answer, Limits

CHUNK_TOKENS = 256  # of a prompt that are read at once; a client that goes away is noticed between two chunks


class LocalEngine:
    """A model that continues prompts, one at a time; used by one thread.

    Args:
        loaded: the model, in evaluation mode.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        model = loaded.model
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._decoder = base.get_decoder()
        self._prompts = PromptCaches() if can_be_cut(base.config) else None
        self._ends = end_tokens(loaded.tokenizer)
        self._healing = healing_of(loaded.tokenizer)
        self._head = ExitStack()
        self._head.enter_context(loaded.converted_head())  # for as long as this engine lives

    @property
    def bytes(self) -> int:
        """Bytes of the weights, with those of all adapters."""
        return int(self._loaded.model.get_memory_footprint())

    def answer(self, ids: Sequence[int], limits: Limits, adapter: str, listener: Listener) -> Answer:
        """Continue a prompt.

        The keys and values of the beginning that it shares with an earlier prompt are used again. The tokens are those
        that the model writes without them, up to the rounding of sums.

        Args:
            ids: token ids of the prompt, at least one.
            limits: limits of the answer.
            adapter: name of the adapter.
            listener: whoever waits for the answer.

        Raises:
            Cancelled: the listener is gone.
        """
        if isinstance(self._loaded.model, PeftModel) and self._loaded.model.active_adapter != adapter:
            self._loaded.model.set_adapter(adapter, inference_mode=True)
        prompt = self._healing.heal(ids) if limits.heals else HealedPrompt(list(ids))
        reader = AnswerReader.of(self._loaded.tokenizer, self._ends, limits, len(prompt.text))
        growing = Growing(reader, limits, listener)
        cache = None if self._prompts is None else self._prompts.take(adapter, prompt.ids)
        known = 0 if cache is None else cache.get_seq_length()
        with torch.inference_mode(), self._loaded.autocast():
            read = cache is None or self._read(prompt.ids, cache, listener)
            written = self._write(prompt, cache, limits, growing) if read else prompt.ids
        if cache is not None and self._prompts is not None:
            self._prompts.keep(adapter, written, cache)
        return growing.finish(len(ids), len(ids) - known, max(0, len(written) - len(ids)))

    def _read(self, ids: Sequence[int], cache: DynamicCache, listener: Listener) -> bool:
        """Let the model read a prompt but for its last token, chunk by chunk; false if the listener is gone."""
        for start in range(cache.get_seq_length(), len(ids) - 1, CHUNK_TOKENS):
            if listener.cancelled():
                return False
            chunk = torch.tensor([ids[start : min(start + CHUNK_TOKENS, len(ids) - 1)]], device=self._loaded.device)
            self._decoder(input_ids=chunk, past_key_values=cache, use_cache=True)
        return True

    def _write(self, healed: HealedPrompt, cache: DynamicCache | None, limits: Limits, growing: Growing) -> list[int]:
        """Let the model write; return the tokens of prompt and answer."""
        ids, decoding = healed.ids, limits.decoding
        if not decoding.max_new_tokens:
            return ids
        decoding = replace(decoding, max_new_tokens=decoding.max_new_tokens + healed.tokens)
        if decoding.temperature:
            torch.manual_seed(decoding.seed)
        prompt = torch.tensor([ids], device=self._loaded.device)
        generator: Any = self._loaded.model
        likelihood = _Likelihood()
        rows = generator.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=generation_config(self._loaded.tokenizer, decoding),
            stopping_criteria=StoppingCriteriaList([_Watch(growing, len(ids), likelihood)]),
            logits_processor=LogitsProcessorList(
                [HealedBeginnings(self._healing, [healed.raw], len(ids)), likelihood]
            ),
            **({} if cache is None else {"past_key_values": cache}),
        )
        return [int(token) for token in rows[0].tolist()]


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of the tokens that end an answer: all special ones but the placeholders of redacted values."""
    markers = sorted(special_tokens(tokenizer) - set(PLACEHOLDERS))
    return frozenset({tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(markers)})


class _Likelihood(LogitsProcessor):
    """Keeps the probabilities of all tokens at the newest place of an answer."""

    def __init__(self) -> None:
        self._logs: torch.Tensor

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self._logs = scores[0].float().log_softmax(dim=-1)
        return scores

    def of(self, token: int) -> float:
        """Return the logarithm of a token's probability at this place."""
        return float(self._logs[token])


class _Watch(StoppingCriteria):
    """Lets an answer grow with each token, and stops it."""

    def __init__(self, growing: Growing, start: int, likelihood: _Likelihood) -> None:
        self._growing, self._start, self._likelihood = growing, start, likelihood

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        answer = input_ids[0, self._start :].tolist()
        done = self._growing.grow(self._growing.reader.read(answer), self._likelihood.of(answer[-1]))
        return torch.tensor([done], device=input_ids.device)
