"""Makes sure that a model can be saved: corrects what transformers loads but refuses to save, and saves once to try."""

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def make_savable(model: PreTrainedModel) -> None:
    """Correct a generation configuration that transformers loads with a warning but refuses to save.

    Many models on the hub have a `temperature` without `do_sample`. They decode greedily, so the keys of sampling have
    no effect and are removed. If the configuration is still invalid, only its token ids are kept.
    """
    config = getattr(model, "generation_config", None)
    if config is None or _is_valid(config):
        return
    plain = GenerationConfig()
    if not config.do_sample:
        for name in SAMPLING:
            setattr(config, name, getattr(plain, name, None))
    if not _is_valid(config):
        ids = {name: getattr(config, name, None) for name in TOKENS}
        valid = {name: value for name, value in ids.items() if not (isinstance(value, int) and value < 0)}
        model.generation_config = GenerationConfig(**valid)


def _is_valid(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True


def rehearse_saving(model: PreTrainedModel | PeftModel, folder: str) -> None:
    """Save an adapter and the base's configuration into `folder`, and raise the error that saving after training would.

    The base's weights are not saved.
    """
    base = model
    if isinstance(model, PeftModel):
        model.save_pretrained(folder)
        base = model.get_base_model()
    base.config.save_pretrained(folder)
    if base.can_generate():
        base.generation_config.save_pretrained(folder)
