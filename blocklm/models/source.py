"""A base model as a recipe loads it, and what a run made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from blocklm.models.loading import load_base, load_plain_base, load_tuned
from blocklm.models.precision import Precision, choose_precision
from blocklm.models.pretrained import check_length, load_config, load_tokenizer, model_config


@dataclass(frozen=True)
class ModelSource:
    """Where a base model is, how it is quantised and adapted, and what it computes in on this device.

    Attributes:
        config: the recipe's keys of TRL's ModelConfig.
        precision: mixed precision on this device.
        trust_remote_code: whether code that comes with the model may run.
    """

    config: ModelConfig
    precision: Precision
    trust_remote_code: bool = False

    @classmethod
    def from_keys(cls, model: Mapping[str, Any], training: Mapping[str, Any]) -> Self:
        """Read a recipe's keys of the model and, for precision and trust, of the training.

        Raises:
            UserError: keys that contradict each other, or a precision that this device lacks.
        """
        precision = choose_precision(training.get("fp16"), training.get("bf16"))
        return cls(model_config(dict(model)), precision, bool(training.get("trust_remote_code", False)))

    @property
    def name(self) -> str:
        """The directory or hub name of the base model."""
        return str(self.config.model_name_or_path)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer; raises `UserError` where the model cannot be found."""
        return load_tokenizer(self.config, self.trust_remote_code)

    def architecture(self) -> PretrainedConfig:
        """Load the model's configuration; raises `UserError` where the model cannot be found."""
        return load_config(self.config, self.trust_remote_code)

    def check_length(self, max_length: int) -> None:
        """Raise `UserError` for a length in tokens beyond the model's positions."""
        check_length(self.config, max_length, self.trust_remote_code)

    def base(self) -> PreTrainedModel:
        """Load the base as the recipe quantises it; raises `UserError` where it cannot be found."""
        return load_base(self.config, self.precision, self.trust_remote_code)

    def unquantised(self, dtype: str) -> PreTrainedModel:
        """Load the base without quantisation, in `dtype`."""
        return load_plain_base(self.config, self.precision, dtype, self.trust_remote_code)

    def tuned(self, run_dir: Path) -> PreTrainedModel:
        """Load what a run saved: its adapter on the base, or its whole model.

        It raises `UserError` if the run saved neither.
        """
        return load_tuned(self.config, self.precision, run_dir, self.trust_remote_code)

    def named(self, name: str) -> "ModelSource":
        """The same keys for another base model."""
        config = replace(self.config, model_name_or_path=name, model_revision="main")
        return replace(self, config=config)
