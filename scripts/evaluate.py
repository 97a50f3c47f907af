"""The exam on a run that is complete, once more and in full, into exam-again.json.

python scripts/evaluate.py runs/starcoder2                       # all arms and tasks; what was answered before is not asked again
python scripts/evaluate.py runs/starcoder2 --quick               # base against tuned on 40 questions, no tasks
python scripts/evaluate.py runs/starcoder2 --new_commits         # after `git pull`: on commits that the run had not
python scripts/evaluate.py runs/starcoder2 --model Qwen/Qwen2.5-Coder-7B   # against another model; repeat for several
python scripts/evaluate.py runs/starcoder2 --control runs/other  # against an adapter of another repository: the form alone
python scripts/evaluate.py runs/starcoder2 --exam_items 1000 --exam_arms base tuned
python scripts/evaluate.py runs/starcoder2 --check_command "cargo check --offline" --check_binds ~/.cargo ~/.rustup
"""

import sys
from dataclasses import fields
from pathlib import Path

from blocklm.config.check import CheckArguments
from blocklm.config.exam import ARMS, ExamArguments
from blocklm.console import console
from blocklm.corpus.explain import taken
from blocklm.errors import UserError
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.runs.report.exam_table import exam_table

ASKED = {f"--{key.name}" for keys in (ExamArguments, CheckArguments) for key in fields(keys)}
MAY_CHANGE = (ASKED | {"--repo", "--corpus_dir"}) - {"--exam", "--exam_view", "--adapter_scales"}
QUICK = ["--exam_items", "40", "--exam_arms", "base", "tuned", "--exam_task_items", "0"]
FULL = ["--exam_arms", *ARMS, "--exam_task_items", "16"]


def main() -> None:
    """Load the run, sit the exam again, print the table."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: evaluate.py RUN_DIR [--key value ...]\n\n{__doc__}")
        return
    run_dir, keys = Path(arguments[0]), arguments[1:]
    models = []
    while "--model" in keys:
        keys, model = taken(keys, "--model")
        models.append(str(model))
    keys, control = taken(keys, "--control")
    flags = {flag: flag in keys for flag in ("--quick", "--new_commits")}
    keys = [key for key in keys if key not in flags]
    if foreign := [word for word in keys if word.startswith("--") and word.partition("=")[0] not in MAY_CHANGE]:
        hint = f"only {', '.join(sorted(MAY_CHANGE))} may be given"
        raise UserError(f"`{foreign[0]}` would change what was trained on", hint)

    from blocklm.evaluation.exam.phase import write_result
    from blocklm.evaluation.exam.rerun import Compared, evaluate  # heavy
    from blocklm.runs.completed import open_run

    run = open_run(run_dir, [*(QUICK if flags["--quick"] else FULL), *keys])
    if run.recipe.check.check_command is not None:
        check_isolation(run.recipe.check.binds)
    result = evaluate(run, Compared(models, Path(control) if control else None), flags["--new_commits"])
    write_result(run_dir / "exam-again.json", result)
    print(exam_table(result))


if __name__ == "__main__":
    with console():
        main()
