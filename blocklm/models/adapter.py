"""Configures the LoRA adapter, checks that its targets exist, and turns its weights off or exchanges them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, get_peft_config

from blocklm.errors import UserError
from blocklm.models.loaded import LoadedModel

MAY_DIFFER = {"attn_implementation", "dtype"}  # how it is computed, not what was learned


def lora_config(model: PreTrainedModel, config: ModelConfig) -> LoraConfig | None:
    """Build the recipe's LoRA configuration; None for full fine-tuning.

    PEFT raises only if no target matches, and ignores a single wrong name, so each is checked here. Without
    `lora_target_modules`, every linear layer but the head is adapted.

    Raises:
        UserError: a target that names no layer, or a quantised base without LoRA, which cannot be trained.
    """
    if not config.use_peft:
        if config.load_in_4bit or config.load_in_8bit or getattr(model, "is_quantized", False):
            raise UserError("a quantised model cannot be trained without LoRA", "set `use_peft: true`")
        return None
    lora = get_peft_config(config)
    targets = lora.target_modules or "all-linear"
    if targets != "all-linear":
        # TRL turns a list of one into a string, which PEFT would match as a pattern on whole paths.
        targets = [targets] if isinstance(targets, str) else sorted(targets)
        check_targets(model, targets)
    lora.target_modules = targets
    _check_named("lora_modules_to_save", lora.modules_to_save, [name for name, _ in model.named_modules()])
    _check_named("lora_target_parameters", lora.target_parameters, [name for name, _ in model.named_parameters()])
    return lora


def check_targets(model: torch.nn.Module, targets: list[str]) -> None:
    """Raise `UserError` unless each name ends the path of some linear layer of `model` that is not its head.

    The fused loss reads the head's weight without calling the head, so that an adapter on it would have no effect.
    """
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)}
    linear = [name for name, module in layers.items() if module is not head]
    for target in targets:
        if not _is_among(target, linear):
            if _is_among(target, layers):
                raise UserError(
                    f"`lora_target_modules` names `{target}`, the head of {type(model).__name__}, which takes no adapter",
                    f"leave it out, or train it whole with `lora_modules_to_save: [{target}]`",
                )
            names = sorted({name.rpartition(".")[2] for name in linear})
            raise UserError(
                f"`lora_target_modules` names `{target}`, which {type(model).__name__} does not have",
                f"its linear layers are {', '.join(names)}; or use `all-linear`",
            )


def _check_named(key: str, wanted: Collection[str] | None, present: Sequence[str]) -> None:
    """Raise `UserError` unless each name ends one of the paths in `present`; PEFT would ignore it."""
    for name in wanted or ():
        if not _is_among(name, present):
            raise UserError(
                f"`{key}` names `{name}`, which the model does not have", f"correct `{key}` or leave it out"
            )


def _is_among(name: str, paths: Collection[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in paths)


def check_same_model(ours: ModelConfig, theirs: ModelConfig, run_dir: Path) -> None:
    """Refuse to continue a run of another base, quantisation or adapter shape.

    Raises:
        UserError: a key that shapes what was learned differs.
    """
    here, there = asdict(ours), asdict(theirs)
    for keys in (here, there):
        folder = Path(str(keys["model_name_or_path"])).expanduser()
        keys["model_name_or_path"] = str(folder.resolve() if folder.is_dir() else keys["model_name_or_path"])
    for key in sorted(here.keys() - MAY_DIFFER):
        if here[key] != there[key]:
            raise UserError(
                f"`{key}` is {here[key]!r}, but `{run_dir}` was trained with {there[key]!r}",
                f"set `{key}` as it was there, or remove `continue_from` to start from the base",
            )


def put_adapter(model: PeftModel, run_dir: Path, factor: float = 1.0) -> None:
    """Copy the adapter weights that another run saved into `model`, with the scale that was chosen for them.

    Call it after the trainer is built, because that rounds the trainables of a quantised model to bf16. The weights
    replace those of the present adapter, because initialisations such as PiSSA change the base and may do so only once.

    Args:
        model: a model with an adapter of the same shape.
        run_dir: directory of the other run.
        factor: what the adapter is multiplied by, beside its scale.

    Raises:
        UserError: the saved adapter has another shape.
    """
    weights = load_peft_weights(str(run_dir), device="cpu")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if {name: own[name].shape for name in own} != {name: weights[name].shape for name in weights}:
        raise UserError(
            f"the adapter in `{run_dir}` has another shape than its recipe says",
            "name another run in `continue_from`",
        )
    theirs = LoraConfig.from_pretrained(str(run_dir)).lora_alpha * factor
    ours = model.peft_config["default"].lora_alpha
    if theirs != ours:
        weights = {name: tensor * theirs / ours if "lora_B" in name else tensor for name, tensor in weights.items()}
    set_peft_model_state_dict(model, weights)


@contextmanager
def base_arm(tuned: LoadedModel, reload: Callable[[], PreTrainedModel]) -> Iterator[LoadedModel]:
    """Open the model as it was before training: its adapter turned off, or the base reloaded after full fine-tuning."""
    if isinstance(tuned.model, PeftModel):
        with tuned.model.disable_adapter():
            yield tuned
    else:
        yield replace(tuned, model=reload().to(tuned.device))


@contextmanager
def previous_arm(
    tuned: LoadedModel, run_dir: Path, reload: Callable[[], PreTrainedModel], factor: float = 1.0
) -> Iterator[LoadedModel]:
    """Open the result of the run in `run_dir`: its adapter in place of the present one, or its whole model reloaded.

    An adapter is multiplied by `factor`, beside its own scale.
    """
    model = tuned.model
    if not isinstance(model, PeftModel):
        yield replace(tuned, model=reload().to(tuned.device))
        return
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    present = {name: tensor.clone() for name, tensor in own.items()}
    put_adapter(model, run_dir, factor)
    try:
        yield tuned
    finally:
        set_peft_model_state_dict(model, present)
