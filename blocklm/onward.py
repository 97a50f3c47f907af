"""How a run goes on from an earlier one, phase by phase; one that begins anew passes through unchanged."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from transformers import PreTrainedModel
from trl import ModelConfig

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import Curated
from blocklm.corpus.prompt_templates import FAMILY, Family
from blocklm.mining.changes import Changes
from blocklm.models.adapters import check_same_model, previous_arm, put_adapter
from blocklm.models.loading import load_tuned, model_config
from blocklm.models.precision import Precision
from blocklm.runs.continuation import TopUp, previous_run, roll_back, teaching_commits, top_up, write_learned
from blocklm.runs.model_card import write_card, write_card_of_previous


class Onward:
    """The run that `continue_from` names, and what this one takes from it.

    Args:
        recipe: of this run.
        config: its model keys.
        precision: what the device computes in.
        trust_remote_code: as the recipe says.

    Raises:
        UserError: that run is not complete, or of another model.
    """

    def __init__(self, recipe: Recipe, config: ModelConfig, precision: Precision, trust_remote_code: bool) -> None:
        self._recipe, self._config, self._precision, self._trust = recipe, config, precision, trust_remote_code
        named = recipe.run.continue_from
        self.previous = previous_run(named) if named is not None else None
        self._learned: frozenset[str] = frozenset()
        self._topup: TopUp | None = None
        if self.previous is not None:
            check_same_model(config, model_config(self.previous.recipe.model), self.previous.path)

    @property
    def new(self) -> NDArray[Any] | None:
        """Which training samples are new; None in a run that begins anew."""
        return None if self._topup is None else self._topup.new

    @property
    def report(self) -> dict[str, Any]:
        """Entries of the manifest's `training`."""
        return {"continued_from": None if self._topup is None else self._topup.report, "rolled_back": False}

    def prompts(self, prompts: dict[str, Family]) -> dict[str, Family]:
        """The prompts that the previous run learned, others only for views that it had not."""
        if self.previous is None:
            return prompts
        learned = self.previous.manifest["corpus"]["prompts"]
        return {view: FAMILY[learned.get(view, family.name)] for view, family in prompts.items()}

    def divide(self, changes: Changes, curated: Curated, corpus: Corpus) -> Corpus:
        """Note what this run has before it, and tell what of it is new.

        Raises:
            UserError: nothing is, nothing is left to ask, or it is another history.
        """
        self._learned = teaching_commits(changes.dataset, curated.verdicts)
        if self.previous is None:
            return corpus
        self._learned |= self.previous.learned
        self._topup = top_up(self.previous, changes.dataset, corpus.splits, self._recipe)
        return replace(corpus, splits=self._topup.splits)

    def write_learned(self) -> None:
        """Say in the run directory which commits its result may have learned; before it learns them."""
        write_learned(self._recipe.output_dir, self._learned)

    def start(self, load_base: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """The model to train: the base, or what the previous run made of all of it."""
        return load_base() if self.previous is None or self._config.use_peft else self._load_previous()

    def take_up(self, model: PreTrainedModel) -> None:
        """Put the previous run's adapter on the model that the trainer made of the start."""
        if self.previous is not None and self._config.use_peft:
            put_adapter(model, self.previous.path)

    def arm(self, model: PreTrainedModel) -> Callable[[], AbstractContextManager[PreTrainedModel]] | None:
        """What opens the exam's arm of the previous run."""
        return None if self.previous is None else partial(previous_arm, model, self.previous.path, self._load_previous)

    def save(self, run_dir: Path, manifest: dict[str, Any]) -> None:
        """Write the model card; after a top-up that is worse, the previous run's result comes back with its own card."""
        if self.previous is None or not manifest["training"]["rolled_back"]:
            write_card(run_dir, manifest)
            return
        roll_back(run_dir, self.previous.path)
        write_card_of_previous(run_dir, manifest, self.previous.path, str(self.previous.recipe.output_dir))

    def _load_previous(self) -> PreTrainedModel:
        assert self.previous is not None, "there is one"
        return load_tuned(self._config, self._precision, self.previous.path, self._trust)
