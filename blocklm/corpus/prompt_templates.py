"""Prompt templates of the base models that were trained on code: one family of templates per kind of model.

A family is recognised by the model's vocabulary, never by its name. A view without a template in the family uses plain
text without special tokens: a boundary token that was never trained is the commonest failure (Sweep, next-edit).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from blocklm.config.sampling import VIEWS
from blocklm.errors import UserError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, and the part of it that may be cut.

    Attributes:
        text: the full prompt.
        context: start and end of the context in characters; a prompt that is too long loses its beginning.
    """

    text: str
    context: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Family:
    """The prompt templates of one kind of base model.

    Attributes:
        name: name of the family, as the recipe key `template` takes it.
        markers: special tokens of its templates, by which a vocabulary is recognised.
        prompts: template of each view.
    """

    name: str
    markers: frozenset[str]
    prompts: Mapping[str, str]

    def prompt(self, view: str, context: str, **fields: str) -> "Prompt":
        """Fill in the template of a view.

        Args:
            view: name of the view.
            context: text that may be cut if the prompt is too long.
            fields: the other values that the template names.
        """
        head, tail = _around_context(self.prompts[view])
        before = head.format(**fields)
        return Prompt(before + context + tail.format(**fields), (len(before), len(before) + len(context)))

    def up_to_path(self, view: str, **fields: str) -> tuple[str, str]:
        """Fill in the template of a view up to its first path; returns that text and the character after the path."""
        head, tail = self.prompts[view].split("{path}", 1)
        return head.format(**fields), tail[0]


CONTEXT = "{context}"  # the only part of a template that may be cut, from its beginning
TOKEN = re.compile(r"▁?<[^<>\s]+>")
# Blocks of original and updated text beat unified diffs on small models (Sweep). A model that read Markdown knows
# headings.
PLAIN = {
    "edit": "### {repo}/{path}\n### {subject}\noriginal:\n{context}\nupdated:\n",
    "fim": "### {repo}/{path}\n{context}### the lines below follow after a gap\n{suffix}### the missing lines\n",
    "next_line": "### {repo}/{path}\n{context}",
    "message": "### {repo}\n{context}### commit message\n",
    "diff": "### {repo}/{path}\n### {context}\ndiff:\n",
    "snapshot": "### {repo}/{path}\n{context}",
    "review": "### {repo}/{path}\n{context}### review\n",
}
# `<repo_name>`, `<file_sep>` and FIM with the path inside the prefix (Lozhkov et al. 2024, sections 5.2 and 5.4, table
# 5). Views about a diff use the pull-request format of the same table.
STARCODER2 = {
    "edit": "<repo_name>{repo}<file_sep>{path}\n{context}<file_sep>commit_message\n{subject}<file_sep>{path}\n",
    "fim": "<repo_name>{repo}<file_sep><fim_prefix>{path}\n{context}<fim_suffix>{suffix}<fim_middle>",
    "next_line": "<repo_name>{repo}<file_sep>{path}\n{context}",
    "message": "<repo_name>{repo}\n\n<pr_diff>\n{context}<pr>Title: ",
    "diff": "<pr>Title: {context}\n<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>",
    "snapshot": "<repo_name>{repo}<file_sep>{path}\n{context}",
    "review": "<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>{context}<pr_review_comment>",
}
# Git commits as in StarCoder's notebook `filtering_git_commits` (Li et al. 2023): before, message, after.
STARCODER = {
    "edit": "<reponame>{repo}<filename>{path}\n<commit_before>{context}<commit_msg>{subject}<commit_after>",
    "fim": "<reponame>{repo}<filename>{path}\n<fim_prefix>{context}<fim_suffix>{suffix}<fim_middle>",
    "next_line": "<reponame>{repo}<filename>{path}\n{context}",
    "snapshot": "<reponame>{repo}<filename>{path}\n{context}",
}
# Hui et al. 2024, section 3.1.
QWEN_CODER = {
    "edit": "<|repo_name|>{repo}\n<|file_sep|>{path}\n{context}<|file_sep|>commit_message\n{subject}\n<|file_sep|>{path}\n",
    "fim": "<|repo_name|>{repo}\n<|file_sep|>{path}\n<|fim_prefix|>{context}<|fim_suffix|>{suffix}<|fim_middle|>",
    "next_line": "<|repo_name|>{repo}\n<|file_sep|>{path}\n{context}",
    "snapshot": "<|repo_name|>{repo}\n<|file_sep|>{path}\n{context}",
}
# Guo et al. 2024: the hole stands between the text before and the text after it.
DEEPSEEK_CODER = {
    "fim": "<｜fim▁begin｜># {path}\n{context}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001 (its own full-width bars)
}
# Rozière et al. 2023, section 2.3, prefix-suffix-middle.
CODE_LLAMA = {"fim": "▁<PRE># {path}\n{context}▁<SUF>{suffix}▁<MID>"}

# Families that only the probe tries. SmolLM2 has StarCoder2's repository tokens, but was not trained like it.
FILES = {view: prompt for view, prompt in STARCODER2.items() if view in ("edit", "next_line", "snapshot")}
BARE = {
    "edit": "{subject}\n\n{path}:\n{context}\n{path}, changed:\n",
    "fim": "{path}:\n{context}...\n{suffix}\nInstead of the dots:\n",
    "next_line": "{path}:\n{context}",
    "message": "{context}\nCommit message: ",
    "diff": "{context}\n\n--- a/{path}\n+++ b/{path}\n",
    "snapshot": "{path}:\n{context}",
    "review": "{path}:\n{context}\nReview: ",
}

# The first family whose markers are all in the vocabulary is used unless the probe finds a better one.
FAMILIES: tuple[Family, ...] = tuple(
    Family(name, frozenset(TOKEN.findall(" ".join(own.values()))), PLAIN | own)
    for name, own in (
        ("starcoder2", STARCODER2),
        ("starcoder", STARCODER),
        ("qwen-coder", QWEN_CODER),
        ("deepseek-coder", DEEPSEEK_CODER),
        ("code-llama", CODE_LLAMA),
        ("plain", PLAIN),
        ("files", FILES),
        ("bare", BARE),
    )
)
FAMILY = {family.name: family for family in FAMILIES}


@cache
def _around_context(template: str) -> tuple[str, str]:
    head, tail = template.split(CONTEXT)
    return head, tail


def readable(special_tokens: frozenset[str]) -> list[Family]:
    """List the families whose tokens are all in a vocabulary; the first is used unless the probe finds a better one."""
    return [family for family in FAMILIES if family.markers <= special_tokens]


@dataclass(frozen=True, slots=True)
class InfillTokens:
    """The special tokens with which a model marks a gap.

    Attributes:
        prefix: token before the text that precedes the gap.
        suffix: token before the text that follows it.
        middle: token before the missing text.
        files: tokens before the repository's name and before a file; empty if the vocabulary lacks one of them.
    """

    prefix: str
    suffix: str
    middle: str
    files: tuple[str, ...]


def infill_tokens(special_tokens: frozenset[str]) -> InfillTokens | None:
    """Find the tokens with which a vocabulary marks a gap; None if it has none.

    Families that the vocabulary can read are tried before those of which it has only the tokens for gaps.
    """
    for family in (*readable(special_tokens), *FAMILIES):
        *files, prefix, suffix, middle = TOKEN.findall(family.prompts["fim"]) or [""] * 3
        if {prefix, suffix, middle} <= special_tokens:
            return InfillTokens(prefix, suffix, middle, tuple(files) if special_tokens.issuperset(files) else ())
    return None


@dataclass(frozen=True, slots=True)
class ModelPrompts:
    """The prompts of one model.

    Attributes:
        families: prompt family of each view.
        special_tokens: special tokens of the model; a text that contains one is not rendered.
    """

    families: Mapping[str, Family]
    special_tokens: frozenset[str]


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
