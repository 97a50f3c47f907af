"""The model of an earlier run taken up again: whether it fits the recipe, and its weights put in the place of others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel
from trl import ModelConfig

from blocklm.errors import UserError

MAY_DIFFER = {"attn_implementation", "dtype"}  # how it is computed, not what was learned


def check_same_model(ours: ModelConfig, theirs: ModelConfig, run_dir: Path) -> None:
    """Refuse to go on from a run of another base, quantisation or adapter shape.

    Raises:
        UserError: a key that shapes what was learned is another.
    """
    here, there = asdict(ours), asdict(theirs)
    for keys in (here, there):
        folder = Path(str(keys["model_name_or_path"])).expanduser()
        keys["model_name_or_path"] = str(folder.resolve() if folder.is_dir() else keys["model_name_or_path"])
    for key in sorted(here.keys() - MAY_DIFFER):
        if here[key] != there[key]:
            raise UserError(
                f"`{key}` is {here[key]!r}, but `{run_dir}` was trained with {there[key]!r}",
                f"set `{key}` as it was there, or train anew without `continue_from`",
            )


def put_adapter(model: PeftModel, run_dir: Path) -> None:
    """Give the adapter of `model` the weights that another run saved, exactly, at the strength that was chosen for them.

    They go in after the trainer is built, because that rounds the trainables of a quantised model to bf16; and into the
    adapter that is there, because initialisations such as PiSSA change the base and may do so only once.

    Raises:
        UserError: they are of an adapter of another shape.
    """
    weights = load_peft_weights(str(run_dir), device="cpu")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if {name: own[name].shape for name in own} != {name: weights[name].shape for name in weights}:
        raise UserError(
            f"the adapter in `{run_dir}` is not of the shape that its recipe says",
            "name another run in `continue_from`",
        )
    theirs, ours = LoraConfig.from_pretrained(str(run_dir)).lora_alpha, model.peft_config["default"].lora_alpha
    if theirs != ours:
        weights = {name: tensor * theirs / ours if "lora_B" in name else tensor for name, tensor in weights.items()}
    set_peft_model_state_dict(model, weights)


@contextmanager
def previous_arm(
    model: PreTrainedModel | PeftModel, run_dir: Path, reload: Callable[[], PreTrainedModel]
) -> Iterator[PreTrainedModel]:
    """The model as the run in `run_dir` left it: its adapter in the place of the present one, or its whole model loaded."""
    if not isinstance(model, PeftModel):
        yield reload().to(model.device)
        return
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    present = {name: tensor.clone() for name, tensor in own.items()}
    put_adapter(model, run_dir)
    try:
        yield model
    finally:
        set_peft_model_state_dict(model, present)
