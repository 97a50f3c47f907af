"""How each kind of base model was taught to read code: a table of prompt templates, one family a row.

A family is told by its vocabulary, never by a model's name. Where it has no grammar of its own for a view it reads plain
text, with no token that it would have to learn first: an untrained boundary is the commonest failure (Sweep, next-edit).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from blocklm.config.sampling import VIEWS
from blocklm.errors import UserError


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of a prompt, and where in it the context stands: what may be cut if it is too long, from its beginning."""

    text: str
    context: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of base model: the special tokens that tell it, which are those of its prompts, and the prompts by view."""

    name: str
    markers: frozenset[str]
    prompts: Mapping[str, str]

    def prompt(self, view: str, context: str, **fields: str) -> "Prompt":
        """The prompt of a view; `context` and `fields` are what its template names."""
        head, tail = self.prompts[view].split(CONTEXT)
        before = head.format(**fields)
        return Prompt(before + context + tail.format(**fields), (len(before), len(before) + len(context)))

    def up_to_path(self, view: str, **fields: str) -> tuple[str, str]:
        """The prompt of a view as far as its first path, and the character that ends a path there."""
        head, tail = self.prompts[view].split("{path}", 1)
        return head.format(**fields), tail[0]


CONTEXT = "{context}"  # what may be cut from the front: everything else is what makes the prompt one
TOKEN = re.compile(r"▁?<[^<>\s]+>")
# Blocks of original and updated text beat unified diffs on small models (Sweep); headings are what Markdown-trained models know.
PLAIN = {
    "edit": "### {repo}/{path}\n### {subject}\noriginal:\n{context}\nupdated:\n",
    "fim": "### {repo}/{path}\n{context}### the lines below follow after a gap\n{suffix}### the missing lines\n",
    "next_line": "### {repo}/{path}\n{context}",
    "message": "### {repo}\n{context}### commit message\n",
    "diff": "### {repo}/{path}\n### {context}\ndiff:\n",
    "snapshot": "### {repo}/{path}\n{context}",
    "review": "### {repo}/{path}\n{context}### review\n",
}
# `<repo_name>`, `<file_sep>` and FIM with the path inside the prefix (Lozhkov et al. 2024, sections 5.2 and 5.4, table 5), and
# the pull-request grammar of its table 5 for what is asked about a diff.
STARCODER2 = {
    "edit": "<repo_name>{repo}<file_sep>{path}\n{context}<file_sep>commit_message\n{subject}<file_sep>{path}\n",
    "fim": "<repo_name>{repo}<file_sep><fim_prefix>{path}\n{context}<fim_suffix>{suffix}<fim_middle>",
    "next_line": "<repo_name>{repo}<file_sep>{path}\n{context}",
    "message": "<repo_name>{repo}\n\n<pr_diff>\n{context}<pr>Title: ",
    "diff": "<pr>Title: {context}\n<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>",
    "snapshot": "<repo_name>{repo}<file_sep>{path}\n{context}",
    "review": "<repo_name>{repo}\n\n<pr_diff>\n<pr_file>{path}\n<pr_diff_hunk>{context}<pr_review_comment>",
}
# Git commits as in its notebook `filtering_git_commits` (Li et al. 2023): before, message, after.
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
# Guo et al. 2024: the hole stands between what is before and what is after.
DEEPSEEK_CODER = {
    "fim": "<｜fim▁begin｜># {path}\n{context}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",  # noqa: RUF001 (its own full-width bars)
}
# Rozière et al. 2023, section 2.3, prefix-suffix-middle.
CODE_LLAMA = {"fim": "▁<PRE># {path}\n{context}▁<SUF>{suffix}▁<MID>"}

# Candidates for the probe alone. SmolLM2 has StarCoder2's repository tokens without its training.
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

# The first whose markers are all in the vocabulary is taken unless the probe finds a better one.
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


def readable(special_tokens: frozenset[str]) -> list[Family]:
    """The families whose tokens are all in a vocabulary; the first is the one to take unless the probe finds a better."""
    return [family for family in FAMILIES if family.markers <= special_tokens]


@dataclass(frozen=True, slots=True)
class InfillTokens:
    """The tokens around a gap, and `files`: those before the repository's name and before a file, where it has them."""

    prefix: str
    suffix: str
    middle: str
    files: tuple[str, ...]


def infill_tokens(special_tokens: frozenset[str]) -> InfillTokens | None:
    """How a vocabulary marks a gap, by the first family that it can read or whose marks it has; None without any."""
    for family in (*readable(special_tokens), *FAMILIES):
        *files, prefix, suffix, middle = TOKEN.findall(family.prompts["fim"]) or [""] * 3
        if {prefix, suffix, middle} <= special_tokens:
            return InfillTokens(prefix, suffix, middle, tuple(files) if special_tokens.issuperset(files) else ())
    return None


def prompts_for(special_tokens: frozenset[str], template: str) -> dict[str, Family]:
    """The family whose prompts each view takes: the first that the vocabulary has, or the one named.

    What `probe` finds replaces it later.

    Raises:
        UserError: no such family, or the vocabulary lacks its tokens.
    """
    found = {family.name: family for family in readable(special_tokens)}
    if template in ("auto", "probe"):
        return dict.fromkeys(VIEWS, next(iter(found.values())))
    if template not in found:
        raise UserError(f"`template` cannot be {template!r} for this model", f"its vocabulary has {', '.join(found)}")
    return dict.fromkeys(VIEWS, found[template])
