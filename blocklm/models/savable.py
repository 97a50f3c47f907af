"""What transformers loads but does not save: mended once when a model is loaded, and tried before it is trained."""

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def make_savable(model: PreTrainedModel) -> None:
    """Mend a generation configuration that transformers reads with a warning and refuses to write.

    Many models of the hub have a `temperature` without `do_sample`. Whoever loads them decodes greedily: that stays,
    and what has no effect goes. Where that is not enough, all goes but the ids of tokens.
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
        known = {name: given for name, given in ids.items() if not (isinstance(given, int) and given < 0)}
        model.generation_config = GenerationConfig(**known)


def _is_valid(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True


def rehearse_saving(model: PreTrainedModel | PeftModel, folder: str) -> None:
    """Save an adapter into `folder`, and of a base what it writes beside its weights.

    It raises what saving would raise.
    """
    whole = model
    if isinstance(model, PeftModel):
        model.save_pretrained(folder)
        whole = model.get_base_model()
    whole.config.save_pretrained(folder)
    if whole.can_generate():
        whole.generation_config.save_pretrained(folder)
