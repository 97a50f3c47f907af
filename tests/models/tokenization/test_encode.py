"""Targets of prompts are never cut, completions end with EOS, and exactly the added text is scored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, List, Value
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.models.tokenization import sample_encoder
from blocklm.models.tokenization.encode import IGNORED, Encoded, encode
from blocklm.models.tokenization.prompt_cutting import MIN_CONTEXT_TOKENS
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from tests.conftest import ROOT

PROMPT = "### demo/a.py\n### Raise x\noriginal:\nimport os\n\nupdated:\n"
COMPLETION = "import os\n    x = 'äöü — 漢字'\n\n    y = 3\nprint(x)\n"
ADDED = [10, COMPLETION.index("print")]
CONTEXT = [PROMPT.index("import"), PROMPT.index("\nupdated")]
STORED = Features(
    {name: Value("string") for name in ("id", "prompt", "completion")}
    | {name: List(Value("int32")) for name in ("context", "added", "place")}
)
LONG = "".join(f"line {number} of the context\n" for number in range(20))


def encoded_in(tokenizer: PreTrainedTokenizerBase, max_length: int, context: str = "import os\n") -> Encoded | None:
    prompt = PROMPT.replace("import os\n", context)
    spans = [CONTEXT[0], CONTEXT[0] + len(context)]
    columns: dict[str, list[Any]] = {
        "prompt": [prompt],
        "context": [spans],
        "completion": [COMPLETION],
        "added": [ADDED],
    }
    (encoded,) = encode(columns, tokenizer, max_length)
    return encoded


@pytest.fixture(params=["llama", "embedded"])
def tokenizer(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    folder = ROOT / "models/smollm2-135m" if request.param == "embedded" else tiny_models[request.param]
    return AutoTokenizer.from_pretrained(folder)


def test_loss_is_on_the_completion_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encoded_in(tokenizer, 512)
    assert encoded is not None
    target = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(target[:-1]) == COMPLETION
    assert target[-1] == tokenizer.eos_token_id
    assert encoded.input_ids[-len(target) :] == target
    assert tokenizer.decode(encoded.input_ids) == PROMPT + COMPLETION + tokenizer.eos_token


def test_exactly_the_added_text_is_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encoded_in(tokenizer, 512)
    assert encoded is not None
    scored = [token for token, counts in zip(encoded.input_ids, encoded.scored, strict=True) if counts]
    # A tokenizer may join the newline before the added text to its indentation: that token is the earlier line's.
    assert tokenizer.decode(scored).strip() == COMPLETION[slice(*ADDED)].strip()


CUT_AT = ["def area(width, height):\n    ret", 'x = compute("', "y = 1\n", "import o"]
WHOLE = ["def area(width, height):\n    return width", 'x = compute("äöü")', "y = 1\n    # indented", "import os"]


def within_a_token(tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> list[Encoded]:
    """Samples whose completions begin where an editor's cursor may stand: within a token."""
    completions = [text.removeprefix(before) for before, text in zip(CUT_AT, WHOLE, strict=True)]
    columns: dict[str, list[Any]] = {
        "prompt": [f"### a.py\n{LONG}{before}" for before in CUT_AT],
        "context": [[len("### a.py\n"), len(f"### a.py\n{LONG}{before}")] for before in CUT_AT],
        "completion": completions,
        "added": [[0, len(text)] for text in completions],
    }
    encoded = encode(columns, tokenizer, max_length)
    return [sample for sample in encoded if sample is not None]


def test_a_completion_that_begins_within_a_token_is_encoded_with_it(tokenizer: PreTrainedTokenizerBase) -> None:
    healed = 0
    for before, whole, sample in zip(CUT_AT, WHOLE, within_a_token(tokenizer), strict=True):
        prompt = f"### a.py\n{LONG}{before}"
        assert tokenizer.decode(sample.input_ids) == f"### a.py\n{LONG}{whole}{tokenizer.eos_token}"
        assert sample.prompt_ids == tokenizer(prompt).input_ids, "an editor sends the text up to the cursor"
        target = sample.input_ids[sample.prompt_tokens : -1]
        tail = tokenizer.decode(sample.tail)
        assert tokenizer.decode(target) == f"{tail}{whole.removeprefix(before)}"
        assert target == tokenizer(f"{tail}{whole.removeprefix(before)}", add_special_tokens=False).input_ids
        assert sample.scored == [*[False] * sample.prompt_tokens, *[True] * len(target), False]
        assert "".join(whole.removeprefix(before)[start:end] for start, end in sample.spans) == whole.removeprefix(
            before
        )
        healed += len(sample.tail) > 0
    assert healed >= 2


def test_a_trimmed_prompt_keeps_the_token_in_which_its_completion_begins(tokenizer: PreTrainedTokenizerBase) -> None:
    for whole, sample, uncut in zip(WHOLE, within_a_token(tokenizer, 60), within_a_token(tokenizer), strict=True):
        assert sample.trimmed and 40 < len(sample.input_ids) <= 60
        assert sample.tail == uncut.tail
        assert tokenizer.decode(sample.input_ids).endswith(f"{whole}{tokenizer.eos_token}")


def test_a_mark_of_the_template_ends_the_token_before_it(tokenizer: PreTrainedTokenizerBase) -> None:
    """Without the text up to the cursor at its end a prompt is a prompt, whatever its last token."""
    columns: dict[str, list[Any]] = {
        "prompt": ["import o"], "context": [[0, 6]], "completion": ["s"], "added": [[0, 1]],
    }  # fmt: skip
    (sample,) = encode(columns, tokenizer, 64)
    assert sample is not None
    assert (sample.tail, sample.prompt_ids) == ([], tokenizer("import o").input_ids)


def test_a_long_prompt_loses_only_the_beginning_of_its_context(tokenizer: PreTrainedTokenizerBase) -> None:
    uncut = encoded_in(tokenizer, 2048, LONG)
    assert uncut is not None
    limit = len(uncut.input_ids) - 40
    trimmed = encoded_in(tokenizer, limit, LONG)
    assert trimmed is not None
    assert trimmed.trimmed
    line = len(tokenizer("line 10 of the context\n", add_special_tokens=False).input_ids)
    assert limit - line < len(trimmed.input_ids) <= limit
    text = tokenizer.decode(trimmed.input_ids).removeprefix(tokenizer.bos_token)
    assert text.startswith("### demo/a.py\n### Raise x\noriginal:\nline "), "it begins with a complete line"
    assert text.endswith(f"line 19 of the context\n\nupdated:\n{COMPLETION}{tokenizer.eos_token}")
    assert "line 0 of" not in text
    assert trimmed.labels[-30:] == uncut.labels[-30:]


def test_a_text_without_a_prompt_loses_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    columns: dict[str, list[Any]] = {
        "prompt": [""], "context": [(0, 0)], "completion": [LONG], "added": [(0, len(LONG))],
    }  # fmt: skip
    (whole,), (cut,) = encode(columns, tokenizer, 512), encode(columns, tokenizer, 40)
    assert whole is not None
    assert cut is not None
    assert (whole.trimmed, cut.trimmed) == (False, True)
    assert tokenizer.decode(whole.input_ids) == LONG + tokenizer.eos_token
    assert cut.input_ids == whole.input_ids[:40], "the file goes on: there is no EOS"
    assert cut.labels == whole.labels[:40]
    assert cut.scored == whole.scored[:40]
    assert cut.spans == whole.spans[: sum(cut.scored)]


def test_a_line_that_fills_the_space_is_cut_in_its_middle(tokenizer: PreTrainedTokenizerBase) -> None:
    context = " ".join(str(number) for number in range(1000, 1200)) + "\n"
    uncut = encoded_in(tokenizer, 4096, context)
    assert uncut is not None
    limit = len(uncut.input_ids) - 40
    trimmed = encoded_in(tokenizer, limit, context)
    assert trimmed is not None
    assert len(trimmed.input_ids) == limit
    assert "1198 1199\n\nupdated:" in tokenizer.decode(trimmed.input_ids)


@dataclass(frozen=True)
class AtPlace:
    """A prompt at a place in a file, with two pieces of other files: its columns, and what is left of it when cut."""

    tokenizer: PreTrainedTokenizerBase
    before: str = "".join(f"before {number:03}\n" for number in range(100))
    after: str = "".join(f"after {number:03}\n" for number in range(100))
    pieces: tuple[str, ...] = ("### far.py\n" + "far = 1\n" * 20, "### near.py\n" + "near = 1\n" * 20)
    retrieved: int = 0
    retrieved_first: bool = False

    def encode(self, max_length: int, retrieved_length: int = 0) -> Encoded | None:
        heads = len("".join(self.pieces)), len("### below\n"), len("\n### above\n")
        start = heads[0] + heads[1]
        behind = start + len(self.after) + heads[2]
        ends = list(accumulate(map(len, self.pieces), initial=0))
        columns: dict[str, list[Any]] = {
            "prompt": ["".join(self.pieces) + f"### below\n{self.after}\n### above\n{self.before}"],
            "context": [(behind, behind + len(self.before))],
            "suffix": [(start, start + len(self.after))],
            "pieces": [[place for span in pairwise(ends) for place in span]],
            "retrieved": [self.retrieved],
            "completion": ["x = 1\n"],
            "added": [[0, 6]],
        }
        (encoded,) = encode(columns, self.tokenizer, max_length, retrieved_length, self.retrieved_first)
        return encoded

    def text(self, max_length: int, retrieved_length: int = 0) -> str:
        encoded = self.encode(max_length, retrieved_length)
        assert encoded is not None
        assert len(encoded.input_ids) <= max_length + retrieved_length
        text = str(self.tokenizer.decode(encoded.input_ids)).removeprefix(self.tokenizer.bos_token)
        assert "### below\n" in text and "\n### above\n" in text, "what no part may lose"
        return text.removesuffix(self.tokenizer.eos_token)

    def sizes(self, text: str) -> tuple[int, int]:
        """Number of tokens of the file that are left before and after the place."""
        below = text[text.index("### below\n") + 10 : text.index("\n### above\n")]
        above = text[text.index("\n### above\n") + 11 :].removesuffix("x = 1\n")
        above_size, below_size = (
            len(self.tokenizer(part, add_special_tokens=False).input_ids) for part in (above, below)
        )
        return above_size, below_size


def test_a_prompt_at_a_place_is_complete_if_it_fits(tokenizer: PreTrainedTokenizerBase) -> None:
    place = AtPlace(tokenizer)
    assert place.text(8192) == "".join(place.pieces) + f"### below\n{place.after}\n### above\n{place.before}x = 1\n"


def test_pieces_of_other_files_are_left_out_as_a_whole_the_farthest_first(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    place = AtPlace(tokenizer)
    far, near = (len(tokenizer(piece, add_special_tokens=False).input_ids) for piece in place.pieces)
    half = [2 * (far + near) + 100, 2 * near + 100, 2 * near - 40]  # the pieces get half of what is left
    shown = [tuple(piece in text for piece in place.pieces) for text in map(place.text, half)]
    assert shown == [(True, True), (False, True), (False, False)]
    for text in map(place.text, half):
        assert text.count("far = 1") in (0, 20) and text.count("near = 1") in (0, 20)


def test_pieces_get_more_than_half_where_the_file_is_short(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = AtPlace(tokenizer).pieces
    place = AtPlace(tokenizer, before="above\n", after="below\n", pieces=(pieces[0], *pieces))
    uncut = place.encode(8192)
    assert uncut is not None
    text = place.text(len(uncut.input_ids) - 1)
    assert [text.count(name) for name in ("far = 1", "near = 1", "below\n", "above\n")] == [20, 20, 2, 2]


def test_the_text_before_gets_three_quarters_and_the_text_after_one_in_whole_lines(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    place = AtPlace(tokenizer, pieces=())
    text = place.text(300)
    above, below = place.sizes(text)
    assert 2.4 < above / below < 3.6
    assert text.startswith("### below\nafter 000\n"), "it loses its end"
    assert text.endswith("before 099\nx = 1\n"), "it loses its beginning"
    assert set(text.splitlines()) <= {
        *place.before.splitlines(),
        *place.after.splitlines(),
        "### below",
        "### above",
        "",
        "x = 1",
    }


def test_retrieved_pieces_with_room_of_their_own_leave_the_rest_of_the_question_as_it_was(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    far, near = AtPlace(tokenizer).pieces
    without = AtPlace(tokenizer, pieces=(near,)).text(600)
    place = AtPlace(tokenizer, retrieved=1)
    room = len(tokenizer(far, add_special_tokens=False).input_ids)
    assert place.text(600, room) == far + without
    assert place.text(600, room - 1) == without
    assert place.text(600) != far + without, "without room of their own they take the place of the file"


@pytest.mark.parametrize("first", [False, True])
def test_retrieved_pieces_within_the_room_can_be_kept_before_recent_edits(
    tokenizer: PreTrainedTokenizerBase, first: bool
) -> None:
    place = AtPlace(tokenizer, retrieved=1, retrieved_first=first)
    far, near = (len(tokenizer(piece, add_special_tokens=False).input_ids) for piece in place.pieces)
    text = place.text(2 * max(far, near) + 100)
    assert [piece in text for piece in place.pieces] == [first, not first]


@pytest.mark.parametrize("short", ["before", "after"])
def test_what_one_side_of_a_place_does_not_need_the_other_gets(tokenizer: PreTrainedTokenizerBase, short: str) -> None:
    uncut = AtPlace(tokenizer, pieces=())
    place = replace(uncut, before="alone\n") if short == "before" else replace(uncut, after="alone\n")
    text = place.text(300)
    sizes = dict(zip(("before", "after"), place.sizes(text), strict=True))
    assert "alone\n" in text
    assert sum(sizes.values()) > 240, "the fixed text takes the rest, and the beginning of a line"


def test_some_of_the_text_before_stays_whatever_else_is_shown(tokenizer: PreTrainedTokenizerBase) -> None:
    place = AtPlace(tokenizer)
    sizes = [place.sizes(place.text(limit))[0] for limit in range(300) if place.encode(limit) is not None]
    assert min(sizes) >= MIN_CONTEXT_TOKENS // 2, "half may go, for a whole line"


def test_a_sample_without_space_for_its_context_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    uncut = encoded_in(tokenizer, 2048, LONG)
    assert uncut is not None
    frame = encoded_in(tokenizer, 2048, "")
    assert frame is not None
    assert encoded_in(tokenizer, len(frame.input_ids) + 2, LONG) is None


def test_a_target_that_is_too_long_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encoded_in(tokenizer, 20) is None


def test_a_split_counts_trimmed_and_long_samples_and_is_encoded_once(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("x = 1\n" * 500, "x = 1\n")
    rows = [
        {"id": text[:9], "prompt": PROMPT, "context": CONTEXT, "completion": text, "added": [0, len(text)]}
        for text in texts
    ]
    split = SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 256)
    assert (len(split.dataset), split.too_long) == (1, 1)
    assert split.tokens == len(split.dataset[0]["input_ids"])
    assert split.dataset["sample"][:] == [1]
    monkeypatch.setattr(sample_encoder, "encode", None)
    assert SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 256).dataset[:] == split.dataset[:]
    with pytest.raises(TypeError):
        SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 255)


def test_prompts_of_stored_places_are_built_before_they_are_encoded(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """A sample that cannot be read has no completion and is left out; other prompts are another encoding."""
    rows = [
        {"id": name, "prompt": "", "context": [0, 0], "completion": "", "added": [], "place": [number]}
        for number, name in enumerate(("a", "gone"))
    ]
    samples = Dataset.from_list(rows, features=STORED)

    def filled(columns: Mapping[str, list[Any]], max_length: int) -> Mapping[str, list[Any]]:
        answers = [f"x = {max_length}\n" if name == "a" else "" for name in columns["id"]]
        return {**columns, "prompt": ["### a.py\n"] * len(answers), "completion": answers}

    encoder = SampleEncoder(tokenizer, tmp_path, filled, "one corpus")
    split = encoder.encode_split(samples, 64)
    assert (split.too_long, split.unread, split.dataset["sample"][:]) == (0, 1, [0])
    assert tokenizer.decode(split.dataset[0]["input_ids"]).endswith(f"### a.py\nx = 64\n{tokenizer.eos_token}")
    columns, encoded = encoder.encode_columns(samples, 64)
    assert columns["completion"] == ["x = 64\n", ""]
    assert [sample is None for sample in encoded] == [False, True]
    assert [sample is None for sample in encoder.encode(samples, 64)] == [False, True]
    other = SampleEncoder(tokenizer, tmp_path, lambda columns, max_length: columns, "another corpus")
    assert other.encode_split(samples, 64).unread == 2, "not the cached one"
