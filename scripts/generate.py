"""Generate with a complete run's model: continue a text, fill a gap, rewrite lines, or describe a diff.

python scripts/generate.py runs/project --prompt "def parse(line):"                      # or the text on stdin
python scripts/generate.py runs/project --prefix "def area(" --suffix "):"               # the text between
python scripts/generate.py runs/project --file src/a.py --line 40                        # what an editor shows there
python scripts/generate.py runs/project --file src/a.py --lines 10-30                    # their next edit
python scripts/generate.py runs/project --file src/a.py --lines 10-20 --instruction "Return early on empty input"
git diff --staged | python scripts/generate.py runs/project --view message               # a commit's subject
python scripts/generate.py runs/project --batch < questions.jsonl                        # JSON lines in and out
python scripts/generate.py runs/project --file src/a.py --line 40 --retrieve 3           # with pieces of other files
python scripts/generate.py runs/project --prompt "def parse(line):" --base too --why    # the base's answer too; sources

The answer is streamed to stdout; all other text goes to stderr. A line of a batch is {"prompt": ...},
{"prefix": ..., "suffix": ...}, {"before": ..., "instruction": ...} or {"diff": ...}, with "path" if there is one. It is
printed again with "output" and "ended".
"""

import sys
from pathlib import Path

from blocklm.assistant.arguments import add_flags, check_request, location_keys, read_request
from blocklm.console import CommandLine, console
from blocklm.formatting import printable
from blocklm.runs.completed import open_run


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    add_flags(parser)
    return parser


def main() -> None:
    """Parse the command line, load the run, write the answer."""
    args = command_line().parse_args()
    check_request(args)

    run = open_run(args.run_dir, location_keys(args))

    from blocklm.assistant.assistant import Assistant  # heavy
    from blocklm.assistant.attribution import Attributor, describe_attribution
    from blocklm.assistant.batch import answer_lines
    from blocklm.models.generation.decoding import Decoding

    assistant = Assistant(run, Decoding(args.max_new_tokens, args.temperature, args.seed), args.retrieve)
    request = None if args.batch else read_request(args, assistant.prompt_builder)
    origins = Attributor(run.corpus().splits["train"], run.tokenizer, run.changes.subjects) if args.why else None
    arms = {None: ["tuned"], "only": ["base"], "too": ["tuned", "base"]}[args.base]
    if request is None:
        for line in answer_lines(assistant, arms, sys.stdin.buffer, origins):
            print(line, flush=True)
        return
    for arm in arms:
        if len(arms) > 1:
            print(f"{arm}:", file=sys.stderr)
        output = assistant.stream_answer(request, arm == "base")
        if origins is not None and arm == arms[0]:
            for line in describe_attribution(origins.of(request.prompt.text, output.text)):
                print(printable(line), file=sys.stderr)


if __name__ == "__main__":
    with console(resumes=False):
        main()
