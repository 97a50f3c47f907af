"""Words what a request asks as the run was taught it, within the tokens that its samples had."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import PromptBuilder, Request
from blocklm.corpus.places.completion import COMPLETION
from blocklm.corpus.places.next_edit import NEXT_EDIT
from blocklm.corpus.places.place import FilePiece, Place
from blocklm.corpus.places.reader import CHARS_PER_TOKEN
from blocklm.corpus.prompt_templates import ModelPrompts, Prompt
from blocklm.errors import UserError
from blocklm.models.generation.decoding import Decoding
from blocklm.models.tokenization.encode import encode
from blocklm.runs.completed import CompletedRun
from blocklm.serving.own_context import OwnContext
from blocklm.serving.question import Chat, Gap, Limits, NextEdit, Question
from blocklm.serving.refused import Refused
from blocklm.serving.stable_window import around_cursor

PIECES_PART = 2  # of the room, for pieces of other files if there are any
SPARE = 64  # tokens for the path and the marks of a template
FIM_BEFORE = "fim"  # view of runs that were made before there was `completion`


@dataclass(frozen=True, slots=True)
class Worded:
    """A prompt as the model reads it: its token ids, whether text was left out, and the limits of the answer."""

    ids: list[int]
    truncated: bool
    limits: Limits


@dataclass(frozen=True)
class RunPrompts:
    """Words requests to one run.

    Attributes:
        run: the run.
        positions: maximum tokens that the model can read, prompt and answer together.
        context: what is known of its repositories; None for nothing.
    """

    run: CompletedRun
    positions: int
    context: OwnContext | None = None

    @cached_property
    def builder(self) -> PromptBuilder:
        """The builder of prompts in the templates that the run was trained with."""
        return Assistant(self.run, Decoding(1)).prompt_builder

    @cached_property
    def _prompts(self) -> ModelPrompts:
        return ModelPrompts(self.builder.families, self.run.special_tokens)

    @property
    def fills_gaps(self) -> bool:
        """Whether the run was taught to complete at a cursor."""
        return COMPLETION in self.builder.families or FIM_BEFORE in self.builder.families

    @property
    def chats(self) -> bool:
        """Whether the base has a chat template."""
        return self.run.tokenizer.chat_template is not None

    @property
    def max_length(self) -> int:
        """Maximum tokens of a sample that the run was taught, which a prompt has at most."""
        return int(self.run.manifest["plan"]["max_length"])

    def word(self, question: Question) -> Worded:
        """Word a request.

        Raises:
            Refused: the run was not taught what is asked, or the text is empty or too long.
        """
        decoding = question.limits.decoding
        decoding = replace(decoding, max_new_tokens=min(decoding.max_new_tokens, self.positions // 2))
        room = min(self.max_length, self.positions - decoding.max_new_tokens)
        limits = replace(question.limits, decoding=decoding)
        if isinstance(question.asked, Chat):
            return Worded(self._chat(question.asked, self.positions - decoding.max_new_tokens), False, limits)
        try:
            request = self._request(question.asked, room)
        except UserError as error:
            raise Refused(400, f"{error}: {error.hint}") from error
        ids, truncated = self._encode(request.prompt, room)
        truncated = truncated or self._lost(question.asked, request.prompt)
        return Worded(ids, truncated, replace(limits, heals=request.heals))

    def _lost(self, asked: Any, prompt: Prompt) -> bool:
        """Whether a prompt lacks text around the cursor."""
        if not isinstance(asked, Gap):
            return False
        return prompt.context[1] - prompt.context[0] < len(asked.before) or (
            bool(prompt.suffix) and prompt.suffix[1] - prompt.suffix[0] < len(asked.after)
        )

    def _request(self, asked: Any, room: int) -> Request:
        chars = room * CHARS_PER_TOKEN
        if isinstance(asked, Gap):
            if not self.fills_gaps:
                raise Refused(501, "Infill is not supported by this model: it was not taught the view `completion`")
            return self.builder.gap_at(self._gap(asked, room))
        if isinstance(asked, NextEdit):
            if NEXT_EDIT not in self.builder.families:
                raise Refused(
                    501, "next edits are not supported by this model: it was not taught the view `next_edit`"
                )
            return self.builder.next_edit_at(self._edited(asked, chars))
        text = asked.text[-chars:]
        if not text:
            raise Refused(400, "`prompt` is empty")
        return self.builder.text(text)

    def _gap(self, gap: Gap, room: int) -> Place:
        """Describe a gap: its text up to the nearest special tokens, its file, and pieces of others."""
        chars = room * CHARS_PER_TOKEN
        before = self._prompts.breaking.split(gap.before[-chars:])[-1]
        after = self._prompts.breaking.split(gap.after[:chars])[0]
        found = None if self.context is None else self.context.place_of(before, after)
        pieces = self._unbroken(gap.pieces)
        if self.context is not None:
            pieces = [*self._unbroken(self.context.pieces_near(found, before, after)), *pieces]
        file = max(0, room - SPARE) // (PIECES_PART if pieces else 1)
        before, after = around_cursor(before, after, file, self.run.tokenizer)
        name = next(iter(self.builder.repositories.values())) if found is None else found.repo
        path = gap.path if found is None else found.path
        return Place(name, self._unbroken_path(path), before, after, pieces=pieces)

    def _edited(self, edit: NextEdit, chars: int) -> Place:
        name = next(iter(self.builder.repositories.values()))
        if len(edit.window) > chars:
            raise Refused(400, f"the lines to edit have more than {chars} characters")
        return Place(
            name, self._unbroken_path(edit.path), edit.window, edits=edit.edits, pieces=self._unbroken(edit.pieces)
        )

    def _unbroken(self, pieces: Sequence[FilePiece]) -> list[FilePiece]:
        """Select the pieces without a special token of the model."""
        breaking = self._prompts.breaking
        return [piece for piece in pieces if not (breaking.search(piece.path) or breaking.search(piece.text))]

    def _unbroken_path(self, path: str | None) -> str | None:
        return None if path is None or self._prompts.breaking.search(path) else path

    def _encode(self, prompt: Prompt, room: int) -> tuple[list[int], bool]:
        columns: dict[str, Sequence[Any]] = {
            "prompt": [prompt.text], "context": [prompt.context], "suffix": [prompt.suffix], "pieces": [prompt.pieces],
            "completion": [""], "added": [()],
        }  # fmt: skip
        (encoded,) = encode(columns, self.run.tokenizer, room + 1)  # one more for EOS
        if encoded is None:
            raise Refused(400, f"the prompt does not fit into {room} tokens, even without its context")
        return encoded.input_ids[:-1], encoded.trimmed

    def _chat(self, chat: Chat, room: int) -> list[int]:
        """Word a conversation with the base's chat template."""
        if not self.chats:
            raise Refused(501, "chat is not supported by this model: its base has no chat template")
        try:
            ids = self.run.tokenizer.apply_chat_template(
                list(chat.messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as error:  # such as for the order of roles
            raise Refused(400, f"the chat template refuses these messages: {error}") from error
        if len(ids) > room:
            raise Refused(400, f"the conversation has {len(ids)} tokens, and {room} fit")
        return [int(token) for token in ids]
