"""How a conversation is written for a model: in its own chat template, or under headings where it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer; `ended` if the model said itself that this is all."""

    question: str
    answer: str
    ended: bool


class ChatFormat(Protocol):
    """How turns become one text."""

    @property
    def stops(self) -> tuple[str, ...]:
        """What comes after an answer in that text: there a model has said all it has to say."""

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Everything up to where the answer to `question` begins; `opening` is what all is about."""


class Headings:
    """Sections under headings, which every model knows that has read Markdown."""

    stops = ("\n###",)

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Everything up to where the answer to `question` begins."""
        said = "".join(f"### Question\n{turn.question}\n### Comment\n{turn.answer.strip()}\n" for turn in turns)
        text = f"{system}\n\n{opening}\n{said}### Question\n{question}\n### Comment\n"
        start: list[int] = self._tokenizer("").input_ids  # BOS where the model expects one
        return start + _ids(self._tokenizer, text)


class Chat:
    """The model's own chat template, which also writes BOS."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        mark = "ANSWER"
        ended = self._text([_message("user", "?"), _message("assistant", mark)], answering=False)
        end = ended.rpartition(mark)[2].strip()
        self.stops = (end,) if end else ()

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Everything up to where the answer to `question` begins."""
        first, *later = [*(turn.question for turn in turns), question]
        messages = [_message("user", f"{opening}\n{first}")]
        for turn, asked in zip(turns, later, strict=True):
            messages += [_message("assistant", turn.answer.strip()), _message("user", asked)]
        try:
            text = self._text([_message("system", system), *messages])
        except TemplateError:  # some templates know no such role
            messages[0] = _message("user", f"{system}\n\n{opening}\n{first}")
            text = self._text(messages)
        return _ids(self._tokenizer, text)

    def _text(self, messages: list[dict[str, str]], answering: bool = True) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))


def chat_format(tokenizer: PreTrainedTokenizerBase, plain: bool = False) -> ChatFormat:
    """The form that a model was taught; headings if it was taught none, or if `plain`."""
    return Headings(tokenizer) if plain or not tokenizer.chat_template else Chat(tokenizer)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
