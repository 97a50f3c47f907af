"""Opens a completed run: its recipe, its models, its repositories, and its training samples."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocklm.config.exam import ARMS, MORE_ARMS
from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.config.sampling import RENAMED
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.places.infill_tokens import InfillTokens, infill_tokens
from blocklm.corpus.prompt_templates import FAMILY, ModelPrompts
from blocklm.errors import UserError
from blocklm.files import check_spelling
from blocklm.git.repository import Repository, open_repositories
from blocklm.git.search_history import stands_in_history
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.pretrained import special_tokens
from blocklm.runs.manifest import read_complete_manifest, views_of_before

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from blocklm.models.loaded import LoadedModel
    from blocklm.models.source import ModelSource


@dataclass(frozen=True)
class CompletedRun:
    """A complete run; tokenizer, history and models are loaded at first use.

    Attributes:
        path: the run directory.
        recipe: the run's recipe, with the keys that the caller changed.
        manifest: content of the run's `manifest.json`.
        source: base model and quantisation of the recipe.
    """

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    source: "ModelSource"

    @property
    def adapted(self) -> bool:
        """Whether the result is an adapter, not a full model."""
        return (self.path / "adapter_config.json").is_file()

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer of the base model, as it was used in training."""
        return self.source.tokenizer()

    @cached_property
    def special_tokens(self) -> frozenset[str]:
        """The special tokens of its model."""
        return special_tokens(self.tokenizer)

    @property
    def infill(self) -> InfillTokens | None:
        """The special tokens that mark a gap; None if the vocabulary has none."""
        return infill_tokens(self.special_tokens)

    def tuned(self) -> "LoadedModel":
        """Load the tuned model on this machine's device, with the base quantised as in the recipe."""
        return self._loaded(lambda: self.source.tuned(self.path))

    def base(self) -> "LoadedModel":
        """Load the base on this machine's device, quantised as in the recipe."""
        return self._loaded(self.source.base)

    def _loaded(self, load: Callable[[], "PreTrainedModel"]) -> "LoadedModel":
        from blocklm.models.loaded import LoadedModel  # heavy, as all that these methods import
        from blocklm.models.precision import spare_conversions

        device = _join_alone()
        model, dtype = load().to(device), self.source.precision.dtype
        if self.adapted:
            spare_conversions(model.requires_grad_(False), dtype)
        return LoadedModel(model, self.tokenizer, dtype)

    def plain_base(self, dtype: str) -> "PreTrainedModel":
        """Load the base without quantisation, in `dtype`, on the CPU."""
        _join_alone()
        return self.source.unquantised_base(dtype)

    @cached_property
    def repositories(self) -> list[Repository]:
        """The repositories at the heads that the run used; later commits are not visible.

        Raises:
            UserError: a repository cannot be opened, or their number differs from the run's.
        """
        heads = [source["head"] for source in self.manifest["repository"]["sources"]]
        opened = open_repositories(self.recipe.mining)
        if len(opened) != len(heads):
            raise UserError(
                f"the run in `{self.path}` was trained on {len(heads)} repositories, and `--repo` names {len(opened)}",
                f"give `--repo` {len(heads)} paths or URLs, in the recipe's order",
            )
        return [replace(repository, head=head) for repository, head in zip(opened, heads, strict=True)]

    @cached_property
    def changes(self) -> Changes:
        """The mined history up to those heads, from the cache or mined again.

        Raises:
            UserError: a repository cannot be opened.
        """
        return mine(self.repositories, self.recipe.mining)

    @cached_property
    def history_now(self) -> tuple[list[Repository], Changes]:
        """The repositories at their present heads, and their mined history, from the cache or mined now.

        Raises:
            UserError: a repository cannot be opened.
        """
        opened = open_repositories(self.recipe.mining)
        return opened, mine(opened, self.recipe.mining)

    def corpus(self) -> Corpus:
        """Return the corpus that the run was trained on, from the cache or built again.

        Raises:
            UserError: a repository cannot be opened, or the run's samples were made in views that are gone.
        """
        if old := views_of_before(self.manifest):
            raise UserError(
                f"`{self.path}` was taught the view `{old[0]}`, whose samples are no longer made",
                "train again for this; the run can still be exported and generated from",
            )
        families = {view: FAMILY[name] for view, name in self.manifest["corpus"]["prompts"].items()}
        prompts = ModelPrompts(families, self.special_tokens)
        return build_corpus(self.recipe, self.repositories, self.changes, prompts)

    def stands_in_history(self, text: str) -> bool:
        """Whether some version of a file, or a commit message, contains a text in its unredacted form."""
        return stands_in_history(self.repositories, text)


def _join_alone() -> "torch.device":
    from blocklm.models.distributed import join_alone  # heavy

    return join_alone()


def _todays_views(manifest: dict[str, Any]) -> list[str]:
    """Return the keys with which the recipe of a run can be read whose views and arms have other names today."""
    recipe, keys = manifest["recipe"], list[str]()
    if views := recipe.get("views"):
        shares: dict[str, float] = {}
        for view, share in views.items():
            name = RENAMED.get(view, view)
            shares[name] = shares.get(name, 0) + share
        keys += ["--views", json.dumps(shares)]
    if recipe.get("exam_view") in RENAMED:
        keys += ["--exam_view", RENAMED[recipe["exam_view"]]]
    arms = recipe.get("exam_arms") or []
    if known := [arm for arm in arms if arm in ARMS + MORE_ARMS]:
        keys += ["--exam_arms", *known] if known != arms else []
    return keys


def open_run(run_dir: Path, keys: Sequence[str] = ()) -> CompletedRun:
    """Open a completed run.

    Args:
        run_dir: the run directory.
        keys: recipe keys to change, as command-line arguments; default: none.

    Raises:
        UserError: the run is not complete, or its result is gone.
    """
    check_spelling("run_dir", run_dir)
    manifest = read_complete_manifest(run_dir, f"`{run_dir}`")
    given = [str(run_dir / "recipe.yaml"), *_todays_views(manifest), *keys, "--output_dir", str(run_dir)]
    recipe = parse_recipe(given)

    from blocklm.models.source import ModelSource  # heavy: a folder that holds no run is refused without it

    return CompletedRun(run_dir, recipe, manifest, ModelSource.from_keys(recipe.model, recipe.training))
