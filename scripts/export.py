"""Export a complete run: merged into its base in 16 bit, as GGUF with Ollama's Modelfile, or to the hub.

python scripts/export.py runs/starcoder2                                    # runs/starcoder2/merged
python scripts/export.py runs/starcoder2 --dtype bfloat16 --out ~/models/mine
python scripts/export.py runs/starcoder2 --gguf ~/src/llama.cpp       # also in 8 and 4 bit if its quantiser is built
python scripts/export.py runs/starcoder2 --push_to_hub ORG/NAME             # private; after the audit

A push needs HF_TOKEN or `hf auth login`. It must pass a gate: no secrets in the files, no memorised training text, and
an exam in which the tuned model is not worse than its base. With --force a run that fails the gate is pushed, and its
model card says so. With --private false the repository is public.
"""

from pathlib import Path

from blocklm.assistant.arguments import location_keys
from blocklm.config.release import check_hub_name
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.runs.completed import open_run
from blocklm.runs.report.console_tables import adapter_lines, export_lines


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--out", type=Path, help="new folder for the merged model (default: `merged` in the run directory)"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "bfloat16", "float16", "float32"),
        help="dtype of the merged weights (default: the base's own if it has 16 bit, else float16)",
    )
    parser.add_argument(
        "--gguf",
        type=Path,
        metavar="LLAMA_CPP",
        help="write GGUF files with the programs of this checkout of llama.cpp",
    )
    parser.add_argument(
        "--repo", nargs="+", help="present paths of the repositories, to measure what 8 and 4 bit cost"
    )
    parser.add_argument("--corpus_dir", help="present folder of the corpus")
    parser.add_argument("--push_to_hub", metavar="ORG/NAME", help="push the run to this repository on the hub")
    parser.add_argument(
        "--private", default="true", choices=("true", "false"), help="make the repository private (default: true)"
    )
    parser.add_argument("--hub_base_model", metavar="ORG/NAME", help="the base model's name on the hub")
    parser.add_argument("--force", action="store_true", help="push a run that fails the gate; its model card says so")
    return parser


def main() -> None:
    """Parse the command line, merge or push, print sizes and checks."""
    args = command_line().parse_args()
    if args.push_to_hub is not None:
        check_hub_name("--push_to_hub", args.push_to_hub)
        if args.out or args.gguf:
            raise UserError(
                "a push takes what the run saved, and neither `--out` nor `--gguf`", "give one command for each"
            )

    run = open_run(args.run_dir, location_keys(args))
    if args.push_to_hub is not None:
        from blocklm.release.publish import push_run  # heavy

        print(push_run(run, args.push_to_hub, args.private == "true", args.force, args.hub_base_model))
        return
    from blocklm.release.gguf import MODEL, adapter_to_gguf, to_gguf
    from blocklm.release.llama_cpp import checkout
    from blocklm.release.merge import MERGED, merge
    from blocklm.release.quantised_gguf import quantise_all

    llama_cpp = checkout(args.gguf) if args.gguf else None
    out = args.out.expanduser().absolute() if args.out else args.run_dir / MERGED
    if run.adapted or args.out or llama_cpp is None:
        print(export_lines(out, merge(run, out, args.dtype), "adapter and base"))
    if llama_cpp is not None:
        folder = out.with_name(f"{out.name}-gguf") if args.out else args.run_dir / "gguf"
        model = out if run.adapted else args.run_dir
        print(export_lines(folder, to_gguf(run, model, llama_cpp, folder), "the model"))
        if run.adapted:
            print(adapter_lines(folder, adapter_to_gguf(run, llama_cpp, folder)))
        for line in quantise_all(run, llama_cpp, folder / MODEL):
            print(line, flush=True)


if __name__ == "__main__":
    with console(resumes=False):
        main()
