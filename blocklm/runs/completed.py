"""A run that went to its end, opened again: its recipe, its models, and the samples it learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.corpus.build import build_corpus
from blocklm.corpus.prompt_templates import FAMILY, InfillTokens, infill_tokens
from blocklm.errors import UserError
from blocklm.files import check_spelling
from blocklm.git.repository import Repository, open_repositories
from blocklm.git.search_history import stands_in_history
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.runs.manifest import read_complete_manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from blocklm.models.source import ModelSource


@dataclass(frozen=True)
class CompletedRun:
    """A complete run; what is heavy is loaded when it is asked for."""

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    source: "ModelSource"

    @property
    def adapted(self) -> bool:
        """Whether the result is an adapter, not a whole model."""
        return (self.path / "adapter_config.json").is_file()

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """As in training."""
        return self.source.tokenizer()

    @cached_property
    def special_tokens(self) -> frozenset[str]:
        """The special tokens of its model."""
        from blocklm.models.loading import special_tokens  # heavy

        return special_tokens(self.tokenizer)

    @property
    def infill(self) -> InfillTokens | None:
        """How its vocabulary marks a gap."""
        return infill_tokens(self.special_tokens)

    def tuned(self) -> "PreTrainedModel":
        """The result, on the base as the recipe quantises it, on this machine's device."""
        device = _join_alone()
        return self.source.tuned(self.path).to(device)

    def base(self) -> "PreTrainedModel":
        """The base as the recipe quantises it, on this machine's device."""
        device = _join_alone()
        return self.source.base().to(device)

    def plain_base(self, dtype: str) -> "PreTrainedModel":
        """The base without quantisation, in `dtype`, on the CPU."""
        _join_alone()
        return self.source.unquantised(dtype)

    @cached_property
    def repositories(self) -> list[Repository]:
        """The repositories at the commits from which the run was split; what came later is not seen.

        Raises:
            UserError: they are not here.
        """
        heads = [source["head"] for source in self.manifest["repository"]["sources"]]
        opened = open_repositories(self.recipe.mining)
        if len(opened) != len(heads):
            raise UserError(
                f"the run in `{self.path}` learned from {len(heads)} repositories, and {len(opened)} are named",
                "give `--repo` as many places as the recipe has",
            )
        return [replace(there, head=head) for there, head in zip(opened, heads, strict=True)]

    @cached_property
    def changes(self) -> Changes:
        """What was mined for it, from the cache or again.

        Raises:
            UserError: the repositories are not here.
        """
        return mine(self.repositories, self.recipe.mining)

    @cached_property
    def history_now(self) -> tuple[list[Repository], Changes]:
        """The repositories as they are now and what they hold, from the cache or mined now: for whoever asks of today.

        Raises:
            UserError: the repositories are not here.
        """
        opened = open_repositories(self.recipe.mining)
        return opened, mine(opened, self.recipe.mining)

    def training_samples(self) -> Dataset:
        """The training split, from the cache or mined again.

        Raises:
            UserError: the repositories are not here.
        """
        prompts = {view: FAMILY[name] for view, name in self.manifest["corpus"]["prompts"].items()}
        corpus = build_corpus(self.recipe, self.repositories, self.changes, prompts, self.special_tokens)
        return corpus.splits["train"]

    def stands_in_history(self, text: str) -> bool:
        """Whether a text stands in some version of a file or in a message, before anything was redacted."""
        return stands_in_history(self.repositories, text)


def _join_alone() -> "torch.device":
    from blocklm.models.distributed import join_alone  # heavy

    return join_alone()


def open_run(run_dir: Path, keys: Sequence[str] = ()) -> CompletedRun:
    """Open a run.

    Args:
        run_dir: where it is now.
        keys: of the recipe, as on a command line, that shall be others.

    Raises:
        UserError: it is not complete, or its result is gone.
    """
    check_spelling("run_dir", run_dir)
    manifest = read_complete_manifest(run_dir, f"`{run_dir}`")
    recipe = parse_recipe([str(run_dir / "recipe.yaml"), *keys, "--output_dir", str(run_dir)])

    from blocklm.models.source import ModelSource  # heavy: a folder that holds no run is refused without it

    return CompletedRun(run_dir, recipe, manifest, ModelSource.from_keys(recipe.model, recipe.training))
