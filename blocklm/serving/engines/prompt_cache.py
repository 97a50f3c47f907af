"""Keeps the attention keys and values of the last prompts, because an editor's next request begins like its last."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

MAX_KEPT = 2  # prompts: two editors, or a completion and a next edit, take turns
CROPPED = (DynamicLayer, DynamicSlidingWindowLayer)  # kinds of layers that can be replaced by ones that can be cut


def can_be_cut(config: PretrainedConfig) -> bool:
    """Whether the keys and values of a model can be cut to the beginning of a prompt; a recurrent state cannot."""
    layers = DynamicCache(config=config).layers
    return all(type(layer) in CROPPED for layer in layers)


def key_value_bytes(config: PretrainedConfig, item: int) -> int:
    """Count the bytes of keys and values of one token.

    Args:
        config: the model's configuration.
        item: bytes of a number.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * item)


@dataclass(frozen=True)
class _Kept:
    adapter: str
    ids: Sequence[int]
    cache: DynamicCache


class PromptCaches:
    """The keys and values of the last prompts and their answers, at most `MAX_KEPT`."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []  # the last used at the end

    def take(self, adapter: str, ids: Sequence[int]) -> DynamicCache:
        """Return keys and values of the longest beginning of `ids` that was kept; at least one token is left to read.

        What is returned is kept no longer, because the caller extends it: `keep` gives it back. A beginning that is
        short beside both prompts is not used, since the rest of the kept prompt would be lost for it.

        Args:
            adapter: name of the adapter that computed it.
            ids: token ids of the prompt.
        """
        own = [kept for kept in self._kept if kept.adapter == adapter]
        best = max(own, key=lambda kept: _shared(kept.ids, ids), default=None)
        if best is None:
            return DynamicCache()
        shared = min(_shared(best.ids, ids), len(ids) - 1)
        full = len(self._kept) >= MAX_KEPT and best is self._kept[0]
        if not full and 2 * shared < min(len(best.ids), len(ids)):
            return DynamicCache()
        self._kept = [kept for kept in self._kept if kept is not best]
        surplus = len(best.ids) - shared
        if surplus:
            best.cache.crop(-surplus)
        return best.cache

    def keep(self, adapter: str, ids: Sequence[int], cache: DynamicCache) -> None:
        """Keep keys and values, and drop those that were not used for longest.

        Args:
            adapter: name of the adapter that computed them.
            ids: token ids of prompt and answer; the model has read as many as `cache` holds.
            cache: their keys and values.
        """
        read = cache.get_seq_length()
        if read:
            self._kept = [*self._kept, _Kept(adapter, list(ids[:read]), cache)][-MAX_KEPT:]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two prompts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
