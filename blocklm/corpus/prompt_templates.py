"""Prompt templates of the base models that were trained on code: one family of templates per kind of model.

A family is recognised by the model's vocabulary, never by its name. A view without a template in the family uses plain
text without special tokens: a boundary token that was never trained is the commonest failure (Sweep, next-edit).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from blocklm.config.sampling import VIEWS
from blocklm.corpus.places.place import Place
from blocklm.errors import UserError
from blocklm.mining.redaction import PLACEHOLDERS


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, and the parts of it that may be cut, in characters.

    Attributes:
        text: the full prompt.
        context: start and end of the context; a prompt that is too long loses its beginning.
        suffix: start and end of the text after the place, which loses its end; empty if there is none.
        pieces: start, end, start, end … of the texts that are left out as a whole, the first before the last.
        retrieved: how many of `pieces`, from the first, were retrieved from other files.
    """

    text: str
    context: tuple[int, int]
    suffix: tuple[int, ...] = ()
    pieces: tuple[int, ...] = ()
    retrieved: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """The prompt templates of one kind of base model.

    Attributes:
        name: name of the family, as the recipe key `template` takes it.
        markers: special tokens of its templates, by which a vocabulary is recognised.
        prompts: template of each view, and of the parts of a prompt at a place.
    """

    name: str
    markers: frozenset[str]
    prompts: Mapping[str, str]

    def prompt(self, view: str, context: str, **fields: str) -> Prompt:
        """Fill in the template of a view.

        Args:
            view: name of the view.
            context: text that may be cut if the prompt is too long.
            fields: the other values that the template names.
        """
        return self._fill(view, {CONTEXT: context}, (), fields)

    def prompt_at(self, view: str, place: Place) -> Prompt:
        """Fill in the template of the view `completion` or `next_edit` for a place in a file."""
        given = [self.prompts["piece"].format(path=piece.path, text=piece.text) for piece in place.pieces]
        given += [
            self.prompts["recent_edit"].format(path=edit.path, original=edit.original, updated=edit.updated)
            for edit in place.edits
        ]
        named = {} if place.path is None else {"repo": place.repo, "path": place.path}
        cut = {CONTEXT: place.before, SUFFIX: place.after}
        prompt = self._fill(view if named else f"{view}_unnamed", cut, given, {**named, "window": place.before})
        return replace(prompt, retrieved=len(place.pieces))

    def up_to_path(self, view: str, **fields: str) -> tuple[str, str]:
        """Fill in the template of a view up to its first path; returns that text and the character after the path."""
        head, tail = self.prompts[view].split("{path}", 1)
        return head.format(**fields), tail[0]

    def _fill(self, view: str, cut: Mapping[str, str], given: Sequence[str], fields: Mapping[str, str]) -> Prompt:
        text, spans, pieces = "", dict[str, tuple[int, int]](), list[int]()
        for part in CUT.split(self.prompts[view]):
            start = len(text)
            if part == GIVEN:
                for piece in given:
                    pieces += [len(text), len(text) + len(piece)]
                    text += piece
            elif part in cut:
                text += cut[part]
                spans.setdefault(part, (start, len(text)))
            else:
                text += part.format(**fields)
        return Prompt(text, spans.get(CONTEXT, (0, 0)), spans.get(SUFFIX, ()), tuple(pieces))


# The parts of a template that may be cut: from its beginning, from its end, and piece by piece.
CONTEXT, SUFFIX, GIVEN = "{context}", "{suffix}", "{given}"
CUT = re.compile(r"(\{context\}|\{suffix\}|\{given\})")
TOKEN = re.compile(r"▁?<[^<>\s]+>")
# Blocks of original and updated text beat unified diffs on small models (Sweep). A model that read Markdown knows
# headings. `fim` is the form of a gap in runs made before there was `completion`, for requests to them alone.
PLAIN = {
    "edit": "### {repo}/{path}\n### {subject}\noriginal:\n{context}\nupdated:\n",
    "completion": "{given}### {repo}/{path}, below the cursor\n{suffix}\n### {repo}/{path}, up to the cursor\n{context}",
    "completion_unnamed": "{given}### below the cursor\n{suffix}\n### up to the cursor\n{context}",
    "fim": "### {repo}/{path}\n{context}### the lines below follow after a gap\n{suffix}### the missing lines\n",
    "next_edit": "{given}### {repo}/{path}\noriginal:\n{window}updated:\n",
    "next_edit_unnamed": "{given}### next edit\noriginal:\n{window}updated:\n",
    "recent_edit": "### {path}, edited\noriginal:\n{original}updated:\n{updated}",
    "piece": "### {path}\n{text}",
    "message": "### {repo}\n{context}### commit message\n",
    "diff": "### {repo}/{path}\n### {context}\ndiff:\n",
    "file": "### {repo}/{path}\n{context}",
    "review": "### {repo}/{path}\n{context}### review\n",
}
# `<repo_name>`, `<file_sep>` and FIM with the path inside the prefix (Lozhkov et al. 2024, sections 5.2 and 5.4, table
# 5). Views about a diff use the pull-request format of the same table.
STARCODER2 = {
    "edit": "<repo_name>{repo}<file_sep>{path}\n{context}<file_sep>commit_message\n{subject}<file_sep>{path}\n",
    "completion": "<repo_name>{repo}{given}<file_sep><fim_prefix>{path}\n{context}<fim_suffix>{suffix}<fim_middle>",
    "completion_unnamed": "{given}<file_sep><fim_prefix>{context}<fim_suffix>{suffix}<fim_middle>",
    "fim": "<repo_name>{repo}<file_sep><fim_prefix>{path}\n{context}<fim_suffix>{suffix}<fim_middle>",
    "next_edit": "<repo_name>{repo}{given}<file_sep>{path}\n{window}<file_sep>{path}\n",
    "next_edit_unnamed": "{given}<file_sep>{window}<file_sep>",
    "recent_edit": "<file_sep>{path}.diff\noriginal:\n{original}updated:\n{updated}",
    "piece": "<file_sep>{path}\n{text}",
    "message": "<repo_name>{repo}\n\n<pr_diff>\n{context}<pr>Title: ",
    "diff": "<pr>Title: {context}\n<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>",
    "file": "<repo_name>{repo}<file_sep>{path}\n{context}",
    "review": "<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>{context}<pr_review_comment>",
}
# Git commits as in StarCoder's notebook `filtering_git_commits` (Li et al. 2023): before, message, after.
STARCODER = {
    "edit": "<reponame>{repo}<filename>{path}\n<commit_before>{context}<commit_msg>{subject}<commit_after>",
    "completion": "<reponame>{repo}{given}<filename>{path}\n<fim_prefix>{context}<fim_suffix>{suffix}<fim_middle>",
    "completion_unnamed": "{given}<fim_prefix>{context}<fim_suffix>{suffix}<fim_middle>",
    "fim": "<reponame>{repo}<filename>{path}\n<fim_prefix>{context}<fim_suffix>{suffix}<fim_middle>",
    "next_edit": "<reponame>{repo}{given}<filename>{path}\n<commit_before>{window}<commit_after>",
    "next_edit_unnamed": "{given}<commit_before>{window}<commit_after>",
    "recent_edit": "<filename>{path}\n<commit_before>{original}<commit_after>{updated}",
    "piece": "<filename>{path}\n{text}",
    "file": "<reponame>{repo}<filename>{path}\n{context}",
}
# Hui et al. 2024, section 3.1; tokens 151659 to 151664 of Qwen2.5-Coder's `tokenizer_config.json`. Next edits and
# recent edits as Sweep's models read them, which have these tokens (Zed, `sweep_prompt.rs`).
QWEN_CODER = {
    "edit": "<|repo_name|>{repo}\n<|file_sep|>{path}\n{context}<|file_sep|>commit_message\n{subject}\n<|file_sep|>{path}\n",
    "completion": "<|repo_name|>{repo}\n{given}<|file_sep|>{path}\n"
    "<|fim_prefix|>{context}<|fim_suffix|>{suffix}<|fim_middle|>",
    "completion_unnamed": "{given}<|fim_prefix|>{context}<|fim_suffix|>{suffix}<|fim_middle|>",
    "fim": "<|repo_name|>{repo}\n<|file_sep|>{path}\n<|fim_prefix|>{context}<|fim_suffix|>{suffix}<|fim_middle|>",
    "next_edit": "{given}<|file_sep|>original/{path}\n{window}<|file_sep|>current/{path}\n{window}"
    "<|file_sep|>updated/{path}\n",
    "next_edit_unnamed": "{given}<|file_sep|>original/untitled\n{window}<|file_sep|>current/untitled\n{window}"
    "<|file_sep|>updated/untitled\n",
    "recent_edit": "<|file_sep|>{path}.diff\noriginal:\n{original}updated:\n{updated}",
    "piece": "<|file_sep|>{path}\n{text}",
    "file": "<|repo_name|>{repo}\n<|file_sep|>{path}\n{context}",
}
# Granite 4.1's README: tokens for gaps, none for files. Qwen2.5-Coder's vocabulary has them too, and more.
GRANITE = {
    "completion": "{given}<|fim_prefix|># {path}\n{context}<|fim_suffix|>{suffix}<|fim_middle|>",
    "completion_unnamed": "{given}<|fim_prefix|>{context}<|fim_suffix|>{suffix}<|fim_middle|>",
}
# Guo et al. 2024: the hole stands between the text before and the text after it.
DEEPSEEK_CODER = {
    "completion": "{given}<｜fim▁begin｜># {path}\n{context}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001 (its own full-width bars)
    "fim": "<｜fim▁begin｜># {path}\n{context}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001
    "completion_unnamed": "{given}<｜fim▁begin｜>{context}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001
}
# Rozière et al. 2023, section 2.3, prefix-suffix-middle.
CODE_LLAMA = {
    "completion": "{given}▁<PRE># {path}\n{context}▁<SUF>{suffix}▁<MID>",
    "fim": "▁<PRE># {path}\n{context}▁<SUF>{suffix}▁<MID>",
    "completion_unnamed": "{given}▁<PRE>{context}▁<SUF>{suffix}▁<MID>",
}

# Families that only the probe tries. SmolLM2 has StarCoder2's repository tokens, but was not trained like it.
FILES = {
    view: prompt
    for view, prompt in STARCODER2.items()
    if view in ("edit", "next_edit", "recent_edit", "piece", "file")
}
BARE = {
    "edit": "{subject}\n\n{path}:\n{context}\n{path}, changed:\n",
    "message": "{context}\nCommit message: ",
    "fim": "{path}:\n{context}...\n{suffix}\nInstead of the dots:\n",
    "diff": "{context}\n\n--- a/{path}\n+++ b/{path}\n",
    "file": "{path}:\n{context}",
    "review": "{path}:\n{context}\nReview: ",
}

# The first family whose markers are all in the vocabulary is used unless the probe finds a better one.
FAMILIES: tuple[Family, ...] = tuple(
    Family(name, frozenset(TOKEN.findall(" ".join(own.values()))), PLAIN | own)
    for name, own in (
        ("starcoder2", STARCODER2),
        ("starcoder", STARCODER),
        ("qwen-coder", QWEN_CODER),
        ("granite", GRANITE),
        ("deepseek-coder", DEEPSEEK_CODER),
        ("code-llama", CODE_LLAMA),
        ("plain", PLAIN),
        ("files", FILES),
        ("bare", BARE),
    )
)
FAMILY = {family.name: family for family in FAMILIES}


def readable(special_tokens: frozenset[str]) -> list[Family]:
    """List the families whose tokens are all in a vocabulary; the first is used unless the probe finds a better one."""
    return [family for family in FAMILIES if family.markers <= special_tokens]


@dataclass(frozen=True)
class ModelPrompts:
    """The prompts of one model.

    Attributes:
        families: prompt family of each view.
        special_tokens: special tokens of the model; a text that contains one is not rendered.
    """

    families: Mapping[str, Family]
    special_tokens: frozenset[str]

    @cached_property
    def breaking(self) -> re.Pattern[str]:
        """A pattern that finds a special token, which would break a prompt; placeholders of secrets are none."""
        tokens = sorted(self.special_tokens - set(PLACEHOLDERS))
        return re.compile("|".join(map(re.escape, tokens)) or "(?!)")  # without any, a pattern that matches nothing


def prompts_for(special_tokens: frozenset[str], template: str) -> dict[str, Family]:
    """Choose the family of each view: the one that is named, or the first that the vocabulary has.

    Args:
        special_tokens: special tokens of the model.
        template: name of a family, `auto` or `probe`; for `probe` the caller replaces the choice by what it measured.

    Raises:
        UserError: there is no such family, or the vocabulary lacks its tokens.
    """
    available = {family.name: family for family in readable(special_tokens)}
    if template in ("auto", "probe"):
        return dict.fromkeys(VIEWS, next(iter(available.values())))
    if template not in available:
        raise UserError(
            f"`template` cannot be {template!r} for this model", f"set it to one of {', '.join(available)}"
        )
    return dict.fromkeys(VIEWS, available[template])
