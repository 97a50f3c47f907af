"""The keys read from source are the keys the libraries really have."""

import dataclasses

from blocklm.config.library_schema import model_schema, training_schema
from blocklm.config.recipe import LIBRARY_DEFAULTS


def test_the_schema_has_exactly_the_keys_of_sft_config_and_model_config() -> None:
    from trl import ModelConfig, SFTConfig

    light = {field.name for field in dataclasses.fields(training_schema("training"))}
    real = {field.name for field in dataclasses.fields(SFTConfig) if field.init}
    assert light == real
    model = {field.name for field in dataclasses.fields(model_schema("model"))}
    assert model == {field.name for field in dataclasses.fields(ModelConfig) if field.init} - real


def test_our_defaults_are_keys_of_the_library() -> None:
    assert set(LIBRARY_DEFAULTS) <= {field.name for field in dataclasses.fields(training_schema("training"))}


def test_help_and_choices_come_from_the_library() -> None:
    fields = {field.name: field for field in dataclasses.fields(training_schema("training"))}
    assert "learning rate" in fields["learning_rate"].metadata["help"]
    assert "cosine" in str(fields["lr_scheduler_type"].type)
