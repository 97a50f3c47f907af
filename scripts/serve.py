"""Serve completed runs to editors: llama.cpp's `/infill` and OpenAI's `/v1/completions`, on this machine.

python scripts/serve.py runs/project                              # llama.vim, llama.vscode: http://127.0.0.1:8012/infill
python scripts/serve.py runs/project runs/other --port 8013       # two adapters; each request names its model
python scripts/serve.py runs/project --choose_silence             # once: when to say nothing, by the validation split
python scripts/serve.py runs/project --silence                    # say nothing there
python scripts/serve.py runs/project --feedback                   # count which texts are kept, for the run's report
python scripts/serve.py runs/project --print-config llama.vim     # what to put into the editor's settings
python scripts/serve.py runs/project --repo ~/src/project         # where the repository is now
python scripts/serve.py runs/project --no_path --no_pieces        # only what the editor sends
python scripts/serve.py runs/project --engine_url http://127.0.0.1:8080   # llama-server has the model, as its GGUF file

The file in the editor is recognised by its lines, and pieces of related files are put before it. Nothing that
editors send is logged or stored; `--feedback` stores counts alone.
"""

from pathlib import Path

from blocklm.assistant.arguments import location_keys
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.runs.completed import open_run
from blocklm.runs.manifest import read_complete_manifest
from blocklm.serving.editors import EDITORS, settings_of
from blocklm.serving.names import model_names


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path, nargs="+", help="completed runs; the first answers unnamed requests")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8012)
    parser.add_argument("--repo", nargs="+", help="present paths of the repositories")
    parser.add_argument("--corpus_dir", help="present folder of the corpus")
    parser.add_argument("--no_path", action="store_true", help="do not tell the model which file is open")
    parser.add_argument("--no_pieces", action="store_true", help="put no pieces of other files before a prompt")
    parser.add_argument("--silence", action="store_true", help="say nothing where the model doubts its first line")
    parser.add_argument("--choose_silence", action="store_true", help="choose how likely that line must be, and end")
    parser.add_argument(
        "--feedback", action="store_true", help="append to `feedback.jsonl` how much of a text was kept"
    )
    parser.add_argument(
        "--engine_url", help="let a server of llama.cpp or vLLM continue the prompts: it has the model"
    )
    parser.add_argument("--print-config", choices=sorted(EDITORS), help="print the settings of an editor, and end")
    return parser


def main() -> None:
    """Parse the command line, load the runs, listen."""
    args = command_line().parse_args()
    if args.print_config:
        manifests = [read_complete_manifest(run_dir, f"`{run_dir}`") for run_dir in args.run_dir]
        (name, *_) = model_names(list(zip(args.run_dir, manifests, strict=True)))
        print(settings_of(args.print_config, args.host, args.port, name), end="")
        return
    if args.engine_url is not None and (len(args.run_dir) > 1 or args.silence or args.choose_silence):
        raise UserError(
            "`--engine_url` has one model, and does not tell how likely its answers are",
            "name the one run that it has, without `--silence`",
        )
    runs = [open_run(run_dir, location_keys(args)) for run_dir in args.run_dir]

    from blocklm.serving import silence  # heavy, as the others
    from blocklm.serving.listen import listen
    from blocklm.serving.served import PIECES, Switches, load, serve_from

    switches = Switches(not args.no_path, 0 if args.no_pieces else PIECES)
    if args.choose_silence:
        for run in load(runs, Switches(paths=False, pieces=0)).runs:
            guesses = list(silence.measure(run))
            print("\n".join(silence.describe(run.name, *silence.write(run.prompts.run.path, guesses))))
        return
    served = load(runs, switches) if args.engine_url is None else serve_from(runs[0], args.engine_url, switches)
    if args.silence:
        served = served.silent_below([silence.read(run.path) for run in runs])
    listen(served.with_feedback() if args.feedback else served, args.host, args.port)


if __name__ == "__main__":
    with console(resumes=False):
        main()
