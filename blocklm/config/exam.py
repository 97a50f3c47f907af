"""The recipe's keys for the exam; imports no torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.config.sampling import HUNK_VIEWS, RENAMED
from blocklm.errors import UserError

# What an arm is shown around a place: nothing, the file alone, file and recent edits (the default, without a name), or
# retrieved pieces of other files too.
ARMS = tuple(f"{model}{shown}" for model in ("base", "tuned") for shown in ("", "+none", "+file", "+bm25"))
# Not in the default: embedding the pieces that BM25 finds takes minutes on a CPU, and what the path is worth is of
# interest only where a server cannot find it.
MORE_ARMS = ("base+hybrid", "tuned+hybrid", "base+unnamed", "tuned+unnamed")


@dataclass(frozen=True)
class ExamArguments:
    """How the base and the tuned model are compared on the commits after the split."""

    _argument_group_name: ClassVar[str] = "exam"
    exam: bool = field(
        default=True, metadata={"help": "Score the base and the tuned model on the test commits after training."}
    )
    exam_items: int = field(default=400, metadata={"help": "Most test samples that are scored."})
    exam_view: str | None = field(
        default=None,
        metadata={
            "help": "View of the validation and test samples. Default: completion and next_edit, or if neither is "
            "trained on, the view with the largest share."
        },
    )
    exam_items_per_commit: int = field(default=4, metadata={"help": "Most test samples from one commit."})
    exam_arms: list[str] = field(
        default_factory=lambda: list(ARMS),
        metadata={
            "help": f"Models and contexts that are compared, of {', '.join(ARMS + MORE_ARMS)}. Base and tuned are "
            "shown the file around the place in question and recent edits. +none shows only the line before the cursor, "
            "+file the file without edits. +bm25 also shows the most similar code of the repository as it was before "
            "the commit; +hybrid also ranks that code by `embedding_model`. +unnamed hides the path and the "
            "repository's name. Default: all but +hybrid and +unnamed."
        },
    )
    exam_task_items: int = field(
        default=16,
        metadata={
            "help": "Problems of each of up to eleven tasks that the base and the tuned model solve after the exam: "
            "complete at a cursor, make the next edit, write a body, a test, a message, and so on. 0 for none."
        },
    )
    exam_context_tokens: int = field(
        default=1024,
        metadata={"help": "Most tokens that retrieved text may add to a question, within the model's context length."},
    )
    adapter_scales: list[float] = field(
        default_factory=lambda: [0.4, 0.6, 0.8, 1.0],
        metadata={
            "help": "Strengths of the adapter, of which the one with the lowest validation loss is used in the "
            "exam. A single one is used as it is; `1.0` keeps the adapter as trained."
        },
    )


def check_exam(keys: ExamArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a number is too small, a view, arm or scale is unknown, or an arm to compare is missing.
    """
    for key in ("exam_items", "exam_items_per_commit", "exam_context_tokens"):
        if getattr(keys, key) < 1:
            raise UserError(
                f"`{key}` must be at least 1, got {getattr(keys, key)}", f"correct `{key}` or leave it out"
            )
    if keys.exam_task_items < 0:
        raise UserError(f"`exam_task_items` cannot be {keys.exam_task_items}", "give 1 or more, or 0 for no tasks")
    if keys.exam_view in RENAMED:
        raise UserError(f"`exam_view` cannot be {keys.exam_view!r} any more", f"write `{RENAMED[keys.exam_view]}`")
    if keys.exam_view is not None and keys.exam_view not in HUNK_VIEWS:
        raise UserError(f"`exam_view` cannot be {keys.exam_view!r}", f"give one of {', '.join(HUNK_VIEWS)}")
    if unknown := [arm for arm in keys.exam_arms if arm not in ARMS + MORE_ARMS]:
        raise UserError(f"`exam_arms` cannot be {unknown[0]!r}", f"the arms are {', '.join(ARMS + MORE_ARMS)}")
    if not {"base", "tuned"} <= set(keys.exam_arms):
        raise UserError("`exam_arms` must name base and tuned", "the exam compares these two")
    if not keys.adapter_scales or not all(0 < scale <= 1 for scale in keys.adapter_scales):
        raise UserError(f"`adapter_scales` cannot be {keys.adapter_scales}", "give numbers above 0 and up to 1")
