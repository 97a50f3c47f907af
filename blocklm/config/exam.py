"""The recipe's keys of the exam; light, as `blocklm.config.recipe` is."""

from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.config.sampling import HUNK_VIEWS
from blocklm.errors import UserError

ARMS = ("base", "base+examples", "base+bm25", "tuned", "tuned+bm25")
MORE_ARMS = ("base+hybrid", "tuned+hybrid")  # embeddings of the pieces that BM25 finds take minutes on a CPU


@dataclass(frozen=True)
class ExamArguments:
    """How base and tuned model are compared on the commits after the split."""

    _argument_group_name: ClassVar[str] = "exam"
    exam: bool = field(default=True, metadata={"help": "Score base and tuned model on the test commits at the end."})
    exam_items: int = field(default=400, metadata={"help": "At most this many test samples are scored."})
    exam_view: str | None = field(
        default=None, metadata={"help": "View in which the exam asks. Default: the one with the largest share."}
    )
    exam_items_per_commit: int = field(default=4, metadata={"help": "At most this many of them from one commit."})
    exam_arms: list[str] = field(
        default_factory=lambda: list(ARMS),
        metadata={
            "help": f"Who answers, of {', '.join(ARMS + MORE_ARMS)}: examples are changes just before the exam, bm25 gives what "
            "stood in the repository before the commit and is nearest to the question, hybrid ranks that by `embedding_model` too."
        },
    )
    exam_task_items: int = field(
        default=16,
        metadata={
            "help": "Problems of each of up to ten tasks that base and tuned model do at the end: fill a gap, apply an intent, "
            "write a body, a test, a message, and so on. 0 for none."
        },
    )
    exam_context_tokens: int = field(
        default=1024,
        metadata={"help": "Tokens of examples or retrieved text before a question, as far as the model reads."},
    )
    adapter_scales: list[float] = field(
        default_factory=lambda: [0.4, 0.6, 0.8, 1.0],
        metadata={
            "help": "Strengths of the adapter of which validation chooses before the exam; `1.0` alone leaves it."
        },
    )


def check_exam(keys: ExamArguments) -> None:
    """Refuse values that leave nothing to compare.

    Raises:
        UserError: the first of them.
    """
    for key in ("exam_items", "exam_items_per_commit", "exam_context_tokens"):
        if getattr(keys, key) < 1:
            raise UserError(
                f"`{key}` must be at least 1, got {getattr(keys, key)}", f"correct `{key}` or leave it out"
            )
    if keys.exam_task_items < 0:
        raise UserError(f"`exam_task_items` cannot be {keys.exam_task_items}", "0 asks none")
    if keys.exam_view is not None and keys.exam_view not in HUNK_VIEWS:
        raise UserError(f"`exam_view` cannot be {keys.exam_view!r}", f"the exam can ask as {', '.join(HUNK_VIEWS)}")
    if unknown := [arm for arm in keys.exam_arms if arm not in ARMS + MORE_ARMS]:
        raise UserError(f"`exam_arms` cannot be {unknown[0]!r}", f"the arms are {', '.join(ARMS + MORE_ARMS)}")
    if not {"base", "tuned"} <= set(keys.exam_arms):
        raise UserError("`exam_arms` must name base and tuned", "the exam is between these two")
    if not keys.adapter_scales or not all(0 < scale <= 1 for scale in keys.adapter_scales):
        raise UserError(f"`adapter_scales` cannot be {keys.adapter_scales}", "give numbers above 0 and up to 1")
