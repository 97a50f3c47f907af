"""Finishes a run: keeps the better result, writes its model card, checks it by a reload, merges it if asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocklm.evaluation.generation_eval import SAMPLES
from blocklm.models.adapter import base_arm
from blocklm.models.loaded import LoadedModel
from blocklm.release.merge import MERGED, merge
from blocklm.release.publish import ADAPTER, MODEL
from blocklm.release.verify import check_saved, describe, reference_logits
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.completed import CompletedRun
from blocklm.runs.model_card import write_card, write_card_of_previous
from blocklm.runs.top_up import LEARNED, Previous, roll_back

# Files of a run by name; all other files in the run directory are the user's.
ARTIFACTS = ("recipe.yaml", "probe.json", LEARNED, "README.md", "exam.json", SAMPLES, *ADAPTER, *MODEL)
FOLDERS = ("best", MERGED)


def hand_over(run: CompletedRun, trained: LoadedModel, better: Previous | None) -> Iterator[dict[str, Any]]:
    """Keep the better result with its model card, and check that it is what was trained; yield entries of the manifest.

    Args:
        run: the run after its exam.
        trained: the trained model.
        better: the previous run, if its result was better in the exam; else None.

    Raises:
        UserError: the saved model differs from the trained one, or cannot be merged.
    """
    source, run_dir = run.source, run.path
    if better is not None:
        roll_back(run_dir, better.path)  # that run checked what stands there now
        write_card_of_previous(run_dir, run.manifest, better.path, str(better.recipe.output_dir))
    else:
        reference = reference_logits(trained, base_arm(trained, source.base))
        describe(run_dir, source.name, source.config.model_revision, trained.tokenizer)
        write_card(run_dir, run.manifest)
        yield {"saved": check_saved(run_dir, reference, lambda: source.tuned(run_dir).to(trained.device))}
    if run.recipe.handover.save != "adapter":
        yield {"merged": merge(run, run_dir / MERGED)}


def artifacts_of(run_dir: Path) -> list[Path]:
    """List the files of a run directory that are its result or describe how it was made."""
    named = (run_dir / name for name in ARTIFACTS)
    inside = (path for folder in FOLDERS for path in (run_dir / folder).glob("*"))
    return sorted({path for path in (*named, *inside, *saved_weights(run_dir)) if path.is_file()})
