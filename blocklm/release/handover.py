"""The end of a run: the better result with its card, checked by a reload, in the forms that the recipe asks for."""

from collections.abc import Callable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.evaluation.generation_eval import SAMPLES
from blocklm.models.adapter import base_arm
from blocklm.release.merge import MERGED, merge
from blocklm.release.publish import ADAPTER, MODEL
from blocklm.release.verify import check_saved, describe, witness
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.completed import Finished
from blocklm.runs.continuation import LEARNED, Previous, roll_back
from blocklm.runs.manifest import Manifest
from blocklm.runs.model_card import write_card, write_card_of_previous

# Files by name: what else lies in the run directory is the user's.
ARTIFACTS = ("recipe.yaml", "probe.json", LEARNED, "README.md", "exam.json", SAMPLES, *ADAPTER, *MODEL)
FOLDERS = ("best", MERGED)


def hand_over(
    run: Finished,
    manifest: Manifest,
    previous: Previous | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    load_base: Callable[[], PreTrainedModel],
) -> None:
    """Leave the better result with its model card, see that it is what was trained, and record the artifacts.

    Args:
        run: that has been examined.
        manifest: of it.
        previous: the run that it goes on from, whose result comes back if this one is worse.
        model: as trained.
        tokenizer: its own.
        load_base: the base as the recipe quantises it.

    Raises:
        UserError: what was saved is not what was trained, or cannot be merged.
    """
    config, run_dir = run.config, run.path
    if previous is not None and manifest.content["training"]["rolled_back"]:
        roll_back(run_dir, previous.path)  # that run checked what stands there now
        write_card_of_previous(run_dir, manifest.content, previous.path, str(previous.recipe.output_dir))
    else:
        seen = witness(model, base_arm(model, load_base), tokenizer, run.precision.dtype)
        describe(run_dir, str(config.model_name_or_path), config.model_revision, tokenizer)
        write_card(run_dir, manifest.content)
        manifest.update(saved=check_saved(run_dir, seen, lambda: run.tuned().to(model.device)))
    if run.recipe.handover.save != "adapter":
        manifest.update(merged=merge(run, run_dir / MERGED))
    named = (run_dir / name for name in ARTIFACTS)
    inside = (path for folder in FOLDERS for path in (run_dir / folder).glob("*"))
    manifest.add_artifacts(sorted({path for path in (*named, *inside, *saved_weights(run_dir)) if path.is_file()}))
