"""Repeat the exam of a complete run, with all arms and tasks, and write the result to exam-again.json and the report.

python scripts/evaluate.py runs/starcoder2                       # all arms and tasks; earlier answers are reused
python scripts/evaluate.py runs/starcoder2 --quick               # base against tuned on 40 questions, no tasks
python scripts/evaluate.py runs/starcoder2 --new_commits         # after `git pull`: on commits that came after the run
python scripts/evaluate.py runs/starcoder2 --model Qwen/Qwen2.5-Coder-7B   # against another model; may be repeated
python scripts/evaluate.py runs/starcoder2 --control runs/a runs/b runs/c   # among adapters of other repositories
python scripts/evaluate.py runs/all/* --control runs/joint       # each project's own adapter against a joint one
python scripts/evaluate.py runs/starcoder2 --exam_items 1000 --exam_arms base tuned
python scripts/evaluate.py runs/starcoder2 --check_command "cargo check --offline" --check_binds ~/.cargo ~/.rustup
"""

import textwrap
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from blocklm.config.check import CheckArguments
from blocklm.config.exam import ARMS, ExamArguments
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.runs.completed import CompletedRun, open_run
from blocklm.runs.report.exam_tables import by_run
from blocklm.runs.report.exam_text import exam_text
from blocklm.runs.report.text import text_lines

EXAM_FLAGS = {f"--{key.name}" for keys in (ExamArguments, CheckArguments) for key in fields(keys)}
MAY_CHANGE = (EXAM_FLAGS | {"--repo", "--corpus_dir"}) - {"--exam", "--exam_view", "--adapter_scales"}
QUICK = ["--exam_items", "40", "--exam_arms", "base", "tuned", "--exam_task_items", "0"]
FULL = ["--exam_arms", *ARMS, "--exam_task_items", "16"]


def command_line() -> CommandLine:
    """Build the command line; recipe keys that change the exam but not the training may be given too."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path, nargs="+", help="a complete run; several are compared in one table")
    parser.add_argument("--quick", action="store_true", help="base against tuned on 40 questions, no tasks")
    parser.add_argument("--new_commits", action="store_true", help="ask about commits that came after the run")
    parser.add_argument("--model", action="append", default=[], help="another model to compare with; may be repeated")
    parser.add_argument(
        "--control",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN_DIR",
        help="runs of other repositories on the same base, whose gain comes from the form of prompts and from code in "
        "general; the run is ranked among them and compared with their mean",
    )
    parser.epilog = "recipe keys that may be given:\n" + textwrap.fill(", ".join(sorted(MAY_CHANGE)), 100)
    return parser


def main() -> None:
    """Repeat the exam of each run, and print its tables; of several runs also one of all."""
    flags, keys = command_line().parse_known_args()
    if foreign := [word for word in keys if word.startswith("--") and word.partition("=")[0] not in MAY_CHANGE]:
        hint = f"only {', '.join(sorted(MAY_CHANGE))} may be given"
        raise UserError(f"`{foreign[0]}` would change what was trained on", hint)

    runs = [open_run(run_dir, [*(QUICK if flags.quick else FULL), *keys]) for run_dir in flags.run_dir]
    for run in runs:
        if run.recipe.check.check_command is not None:
            check_isolation(run.recipe.check.binds)
    results = {run.path: repeat_exam(run, flags) for run in runs}
    if len(results) > 1:
        print("\n".join(text_lines(by_run(results))))


def repeat_exam(run: CompletedRun, flags: Namespace) -> dict[str, Any]:
    """Repeat the exam of a run, and print and write its result."""
    from blocklm.evaluation.exam.phase import write_result  # heavy
    from blocklm.evaluation.exam.rerun import ComparedModels, evaluate
    from blocklm.runs.report.html import write_html_report

    result = evaluate(run, ComparedModels(flags.model, flags.control), flags.new_commits)
    write_result(run.path / "exam-again.json", result)
    print(exam_text(result))
    write_html_report(run.path)
    return result


if __name__ == "__main__":
    with console():
        main()
