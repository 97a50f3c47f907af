"""Encodes samples as token ids, in the same way for training, validation, exam and requests.

A completion after a prompt is never cut. A prompt that is too long loses first the pieces of other files that stand
before it, then the text farthest from the completion: the beginning of what stands before it, the end of what follows
it, by whole lines where possible. No other part is lost. A sample that is still too long is left out and counted. Every
completion ends with EOS. A text without a prompt, such as a piece of a file, loses its end instead, and EOS with it.
Labels, not token ids, mark padding.

Where the text before the completion is the end of the prompt, a completion may begin within a token. The end of the
prompt that a longer token could replace is then encoded together with the completion, as answers are written there
(`token_healing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocklm.models.tokenization.prompt_cutting import CutParts
from blocklm.models.tokenization.targets import targets_after
from blocklm.models.tokenization.token_healing import healing_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded sample.

    Attributes:
        input_ids: ids of the prompt, the completion and EOS.
        labels: the same ids, with `IGNORED` in place of the prompt's.
        scored: mask of the tokens that the commit added.
        trimmed: whether the context was cut, or the end of a text without a prompt.
        tail: ids with which the prompt ends for an editor; the completion's tokens hold their text again.
        spans: start and end, in characters of the completion, of each scored token.
    """

    input_ids: list[int]
    labels: list[int]
    scored: list[bool]
    trimmed: bool
    tail: Sequence[int] = ()
    spans: Sequence[tuple[int, int]] = ()

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens before the first on which loss is taken."""
        return self.labels.count(IGNORED)

    @property
    def prompt_ids(self) -> list[int]:
        """Ids of the prompt as an editor sends it."""
        return [*self.input_ids[: self.prompt_tokens], *self.tail]


def encode(
    samples: Mapping[str, Sequence[Any]],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    retrieved_length: int = 0,
    retrieved_first: bool = False,
) -> list[Encoded | None]:
    """Encode samples within `max_length` tokens; None takes the place of each sample that is too long.

    Args:
        samples: columns `prompt`, `context`, `completion` and `added`, and where prompts have such parts, `suffix`,
            `pieces` and `retrieved`.
        tokenizer: a fast tokenizer.
        max_length: maximum tokens of prompt and completion together.
        retrieved_length: maximum tokens of retrieved pieces, which come on top; 0, the default, counts them in
            `max_length` like everything else.
        retrieved_first: whether retrieved pieces within `max_length` are kept before recent edits.
    """
    if not len(samples["prompt"]):
        return []
    start = tokenizer("").input_ids  # BOS, if the model expects one
    prompts = tokenizer(list(samples["prompt"]), add_special_tokens=False, return_offsets_mapping=True)
    # The call above has set the rules of its backend.
    targets = targets_after(prompts.input_ids, samples, healing_of(tokenizer), len(start))
    encoded: list[Encoded | None] = []
    for row, (prompt, target) in enumerate(zip(prompts.input_ids, targets, strict=True)):
        target_ids = [*target.ids, tokenizer.eos_token_id]
        room = max_length - len(start) - len(target_ids) + len(target.tail)
        trimmed = len(prompt) > room
        if trimmed and not prompt:
            del target_ids[max_length - len(start) :]
        elif trimmed:
            parts = CutParts.of(samples, row, prompts["offset_mapping"][row])
            kept = parts.fit(samples["prompt"][row], room, retrieved_length, retrieved_first)
            if kept is None:
                encoded.append(None)
                continue
            prompt = [prompt[place] for place in kept]
        context = [*start, *prompt]
        context = context[: len(context) - len(target.tail)]
        added = [*_begin_within(target.spans, samples["added"][row]), False][: len(target_ids)]
        encoded.append(
            Encoded(
                input_ids=context + target_ids,
                labels=[IGNORED] * len(context) + target_ids,
                scored=[False] * len(context) + added,
                trimmed=trimmed,
                tail=target.tail,
                spans=[span for span, counts in zip(target.spans, added, strict=False) if counts],
            )
        )
    return encoded


def _begin_within(tokens: Sequence[tuple[int, int]], added: list[int]) -> list[bool]:
    """Tell of each token whether it begins inside one of the added spans.

    Args:
        tokens: start and end of each token in characters.
        added: start and end of each span in characters, one after the other.
    """
    spans = list(zip(added[::2], added[1::2], strict=True))
    return [any(start <= begin < end for start, end in spans) for begin, _ in tokens]


def fit_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", budget: int) -> list[int]:
    """Encode the texts that fit in a budget of tokens, each completely, in reverse order.

    Texts are taken in their order; one that does not fit is skipped.
    """
    chosen: list[int] = []
    for text in texts:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        if len(chosen) + len(ids) <= budget:
            chosen = ids + chosen
    return chosen
