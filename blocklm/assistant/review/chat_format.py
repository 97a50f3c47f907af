"""Writes a conversation for a model: in its own chat template, or under headings if it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer; `ended` if the model ended the answer itself."""

    question: str
    answer: str
    ended: bool


class ChatFormat(Protocol):
    """A way to write turns as one text."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that follow an answer, at which the model is stopped."""

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Encode the conversation up to the answer to `question`.

        Args:
            system: instruction to the model.
            opening: text that the conversation is about.
            turns: earlier turns.
            question: question to be answered.
        """


class Headings:
    """Sections under Markdown headings, for models without a chat template."""

    stops = ("\n###",)

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Encode the conversation up to the answer to `question`."""
        earlier = "".join(f"### Question\n{turn.question}\n### Comment\n{turn.answer.strip()}\n" for turn in turns)
        text = f"{system}\n\n{opening}\n{earlier}### Question\n{question}\n### Comment\n"
        start: list[int] = self._tokenizer("").input_ids  # BOS where the model expects one
        return start + _encode(self._tokenizer, text)


class Chat:
    """The model's own chat template, which also writes BOS."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        marker = "ANSWER"
        text = self._text([_message("user", "?"), _message("assistant", marker)], answering=False)
        end = text.rpartition(marker)[2].strip()
        self.stops = (end,) if end else ()

    def tokens(self, system: str, opening: str, turns: Sequence[Turn], question: str) -> list[int]:
        """Encode the conversation up to the answer to `question`."""
        first, *later = [*(turn.question for turn in turns), question]
        messages = [_message("user", f"{opening}\n{first}")]
        for turn, following in zip(turns, later, strict=True):
            messages += [_message("assistant", turn.answer.strip()), _message("user", following)]
        try:
            text = self._text([_message("system", system), *messages])
        except TemplateError:  # some templates have no system role
            messages[0] = _message("user", f"{system}\n\n{opening}\n{first}")
            text = self._text(messages)
        return _encode(self._tokenizer, text)

    def _text(self, messages: list[dict[str, str]], answering: bool = True) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering))


def chat_format(tokenizer: PreTrainedTokenizerBase, plain: bool = False) -> ChatFormat:
    """Choose the model's chat template; headings if it has none, or if `plain`."""
    return Headings(tokenizer) if plain or not tokenizer.chat_template else Chat(tokenizer)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
