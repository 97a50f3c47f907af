"""The base model of a recipe as a value, which loads the base and what a run made of it."""

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
    """A base model: where it is, how it is quantised and adapted, and its precision on this device.

    Attributes:
        config: the recipe's keys of TRL's ModelConfig.
        precision: mixed precision on this device.
        trust_remote_code: if true, code that comes with the model may run.
    """

    config: ModelConfig
    precision: Precision
    trust_remote_code: bool = False

    @classmethod
    def from_keys(cls, model: Mapping[str, Any], training: Mapping[str, Any]) -> Self:
        """Read a recipe's keys.

        Args:
            model: keys of TRL's `ModelConfig`.
            training: keys of TRL's `SFTConfig`, of which `fp16`, `bf16` and `trust_remote_code` are read.

        Raises:
            UserError: the keys contradict each other, or this device lacks the precision that they set.
        """
        precision = choose_precision(training.get("fp16"), training.get("bf16"))
        return cls(model_config(dict(model)), precision, bool(training.get("trust_remote_code", False)))

    @property
    def name(self) -> str:
        """The directory or hub name of the base model."""
        return str(self.config.model_name_or_path)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer; raise `UserError` if the model cannot be found."""
        return load_tokenizer(self.config, self.trust_remote_code)

    def architecture(self) -> PretrainedConfig:
        """Load the model's configuration; raise `UserError` if the model cannot be found."""
        return load_config(self.config, self.trust_remote_code)

    def check_length(self, max_length: int) -> None:
        """Raise `UserError` if the model cannot read `max_length` tokens."""
        check_length(self.config, max_length, self.trust_remote_code)

    def base(self) -> PreTrainedModel:
        """Load the base, quantised as the recipe says; raise `UserError` if it cannot be found."""
        return load_base(self.config, self.precision, self.trust_remote_code)

    def unquantised_base(self, dtype: str) -> PreTrainedModel:
        """Load the base without quantisation, with weights in `dtype`, on the CPU."""
        return load_plain_base(self.config, self.precision, dtype, self.trust_remote_code)

    def tuned(self, run_dir: Path) -> PreTrainedModel:
        """Load what a run saved: its adapter on the base, or its fully tuned model.

        Raises:
            UserError: the run saved neither.
        """
        return load_tuned(self.config, self.precision, run_dir, self.trust_remote_code)

    def with_name(self, name: str) -> "ModelSource":
        """Return the source of another base model with the same keys."""
        config = replace(self.config, model_name_or_path=name, model_revision="main")
        return replace(self, config=config)
