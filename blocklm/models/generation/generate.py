"""Generates answers to prompts, in batches; the model, and a training around it, are as before afterwards."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from blocklm.models.generation.batch import Batch, BatchReader
from blocklm.models.generation.decoding import Decoding, Output
from blocklm.models.generation.healed_beginnings import HealedBeginnings
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.token_healing import HealedPrompt, healing_of

REHEARSED = 2  # tokens written: one from the prompt, one from the cache
BATCH_TOKENS = 4096  # tokens of prompts and answers in a batch, padded; halved where memory runs out


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    lines: Sequence[int | None] | None = None,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
    heals: Sequence[bool] | None = None,
) -> list[Output]:
    """Return the answers of `generate_stream` in the order of the prompts."""
    outputs = dict(generate_stream(loaded, prompts, decoding, lines, name, streamer, heals))
    return [outputs[place] for place in range(len(prompts))]


def generate_stream(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    lines: Sequence[int | None] | None = None,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
    heals: Sequence[bool] | None = None,
) -> Iterator[tuple[int, Output]]:
    """Continue each prompt; yield the place of the prompt with its answer, batch by batch, the longest prompts first.

    An answer is what the model would write to its prompt alone, up to the rounding of batched sums. Train or eval mode
    and the random state are restored afterwards.

    Args:
        loaded: the model.
        prompts: token ids.
        decoding: choice of tokens and length of the answers.
        lines: number of lines of each answer that are read, or None for all of them; by default all of every answer.
        name: title of the progress bar; None for no bar.
        streamer: receiver of the tokens of a single prompt's answer as they come.
        heals: whether each answer may begin within a token, and then spends its first tokens on the end of its prompt;
            by default none may.
    """
    read = [None] * len(prompts) if lines is None else lines
    healing = healing_of(loaded.tokenizer)
    healed = [
        healing.heal(prompt) if heal else HealedPrompt(list(prompt))
        for prompt, heal in zip(prompts, heals or [False] * len(prompts), strict=True)
    ]
    waiting = list(_batches([prompt.ids for prompt in healed], decoding.max_new_tokens))
    with (
        loaded.evaluation_mode(),
        torch.no_grad(),
        loaded.autocast(),
        loaded.converted_head(),
        tqdm(total=len(prompts), desc=name, unit=" answers", disable=None if name else True) as progress,
    ):
        while waiting:
            places = waiting.pop(0)
            batch = Batch([healed[place] for place in places], [read[place] for place in places], healing)
            answers = _if_it_fits(loaded, batch, decoding, streamer)
            if answers is None:
                clear_device_cache(garbage_collection=True)
                half = (len(places) + 1) // 2
                waiting = [places[:half], places[half:], *waiting]
            else:
                yield from zip(places, answers, strict=True)
                progress.update(len(places))


def rehearse(loaded: LoadedModel, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
    """Use once the most memory that `generate` will need: its largest batch, at the end of the answers."""
    batches = [[prompts[place] for place in places] for places in _batches(prompts, decoding.max_new_tokens)]
    largest = max(batches, key=lambda batch: len(batch) * len(batch[0]))
    answers = [loaded.pad_token_id] * (decoding.max_new_tokens - REHEARSED)
    generate(loaded, [[*prompt, *answers] for prompt in largest], Decoding(REHEARSED))


def _if_it_fits(
    loaded: LoadedModel, batch: Batch, decoding: Decoding, streamer: BaseStreamer | None
) -> list[Output] | None:
    """Continue a batch; return None if memory ran out and the batch can be halved."""
    try:
        return _continue_batch(loaded, batch, decoding, streamer)
    except RuntimeError as error:
        if len(batch.prompts) == 1 or not should_reduce_batch_size(error):
            raise
        return None


def _batches(prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
    """Yield the places of the prompts of each batch, longest first: one prompt, or at most `BATCH_TOKENS` with answers.

    No prompt is less than half as long as the first of its batch, because padding takes as long as text.
    """
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    while order:
        longest = len(prompts[order[0]])
        alike = sum(2 * len(prompts[place]) >= longest for place in order)
        count = min(alike, max(1, BATCH_TOKENS // (longest + max_new_tokens)))
        yield order[:count]
        order = order[count:]


def _continue_batch(
    loaded: LoadedModel, batch: Batch, decoding: Decoding, streamer: BaseStreamer | None
) -> list[Output]:
    """Continue a batch of prompts, padded on the left."""
    longest = max(len(prompt.ids) for prompt in batch.prompts)
    padding = [longest - len(prompt.ids) for prompt in batch.prompts]
    rows = [[loaded.pad_token_id] * pad + prompt.ids for pad, prompt in zip(padding, batch.prompts, strict=True)]
    ids = torch.tensor(rows, device=loaded.device)
    mask = torch.arange(longest, device=ids.device) >= torch.tensor(padding, device=ids.device)[:, None]
    reader = BatchReader(loaded.tokenizer, longest, batch, decoding.stops)
    torch.manual_seed(decoding.seed)
    generator: Any = loaded.model
    outputs = generator.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        generation_config=generation_config(loaded.tokenizer, decoding),
        stopping_criteria=StoppingCriteriaList([reader]),
        logits_processor=LogitsProcessorList(
            [HealedBeginnings(batch.healing, [prompt.raw for prompt in batch.prompts], longest)]
        ),
        streamer=streamer,
    )
    return [reader.output(number, row) for number, row in enumerate(outputs.tolist())]


def generation_config(tokenizer: PreTrainedTokenizerBase, decoding: Decoding) -> GenerationConfig:
    """Set every option: transformers fills the others from the model's own defaults, which may sample or penalise."""
    sampling = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=0 if decoding.may_end else decoding.max_new_tokens,
        do_sample=bool(decoding.temperature),
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,  # the trainer turns it off in the model's config
        **(sampling if decoding.temperature else {}),
    )
