"""The end of a run: the better result with its card, checked by a reload, in the forms that the recipe asks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.evaluation.generation_eval import SAMPLES
from blocklm.models.adapter import base_arm
from blocklm.release.merge import MERGED, merge
from blocklm.release.publish import ADAPTER, MODEL
from blocklm.release.verify import check_saved, describe, reference_logits
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.completed import CompletedRun
from blocklm.runs.continuation import LEARNED, Previous, roll_back
from blocklm.runs.model_card import write_card, write_card_of_previous

# Files by name: what else lies in the run directory is the user's.
ARTIFACTS = ("recipe.yaml", "probe.json", LEARNED, "README.md", "exam.json", SAMPLES, *ADAPTER, *MODEL)
FOLDERS = ("best", MERGED)


def hand_over(
    run: CompletedRun, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, better: Previous | None
) -> Iterator[dict[str, Any]]:
    """Leave the better result with its model card, and see that it is what was trained; yields entries of the manifest.

    Args:
        run: that has been examined.
        model: as trained.
        tokenizer: the model's.
        better: the previous run, if the exam found its result to be the better one; None for what was trained.

    Raises:
        UserError: what was saved is not what was trained, or cannot be merged.
    """
    source, run_dir = run.source, run.path
    if better is not None:
        roll_back(run_dir, better.path)  # that run checked what stands there now
        write_card_of_previous(run_dir, run.manifest, better.path, str(better.recipe.output_dir))
    else:
        seen = reference_logits(model, base_arm(model, source.base), tokenizer, source.precision.dtype)
        describe(run_dir, source.name, source.config.model_revision, tokenizer)
        write_card(run_dir, run.manifest)
        yield {"saved": check_saved(run_dir, seen, lambda: run.tuned().to(model.device))}
    if run.recipe.handover.save != "adapter":
        yield {"merged": merge(run, run_dir / MERGED)}


def artifacts_of(run_dir: Path) -> list[Path]:
    """The files of a run directory that are its result or say how it came about."""
    named = (run_dir / name for name in ARTIFACTS)
    inside = (path for folder in FOLDERS for path in (run_dir / folder).glob("*"))
    return sorted({path for path in (*named, *inside, *saved_weights(run_dir)) if path.is_file()})
