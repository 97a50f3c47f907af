"""The commands of README and docs parse, their paths and links exist, and the messages they quote are in the code."""

import ast
import re
import shlex
from inspect import signature
from pathlib import Path

import pytest
from transformers.cli.serve import Serve

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from tests.conftest import ROOT
from tests.support.scripts import script_module

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
README, TROUBLESHOOTING = PAGES["README.md"], PAGES["docs/troubleshooting.md"]
# The commands of the experiments are those of the code that each names, and have placeholders in capitals.
TEXTS = "".join(text for name, text in sorted(PAGES.items()) if name != "docs/experiments.md")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXTS, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def test_the_readme_is_short_and_begins_with_a_command() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("bash ") for line in lines[:14])
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_existing_files_and_valid_flags(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)
    for word in words:
        if re.match(r"^(scripts|recipes)/|^accelerate_config", word):
            assert (ROOT / word).exists(), word


def given_to(script: str, words: list[str]) -> list[str]:
    """Return the arguments of a script in a line of shell."""
    at = next(at for at, word in enumerate(words) if word.endswith(script)) + 1
    ends = [place for place, word in enumerate(words) if word in ("<", ">", "|", "&&") and place >= at]
    return words[at : min(ends, default=len(words))]


def read(script: str, words: list[str]) -> None:
    """Parse what a script is given as it does, keys of a recipe included."""
    if script == "quickstart.sh":  # hands on to `train.py` what comes after the repository
        keys = words[1:] if words and not words[0].startswith("--") else words
        script, words = "train.py", ["recipes/quickstart.yaml", *keys]
    if script in ("train.py", "mine.py", "plan.py", "search.py"):
        keys = script_module(script).command_line().parse_known_args(words)[1]
        if script == "search.py":
            assert not keys.pop(1).startswith("-"), "the question comes right after the recipe"
        assert parse_recipe([str(ROOT / keys[0]), *keys[1:]]).model["model_name_or_path"]
    elif script == "evaluate.py":
        module = script_module(script)
        args, keys = module.command_line().parse_known_args(words)
        assert args.run_dir == [Path(words[0])]
        assert {key.partition("=")[0] for key in keys if key.startswith("--")} <= module.MAY_CHANGE
        assert parse_recipe([str(ROOT / "recipes/quickstart.yaml"), *keys])
    elif script.endswith(".py"):
        args = script_module(script).command_line().parse_args(words)
        assert vars(args), "each of these scripts has arguments"
    else:
        assert not words, "no other script takes any"


@pytest.mark.parametrize("command", [command for command in COMMANDS if "scripts/" in command])
def test_a_command_gives_a_script_only_its_own_flags(command: str) -> None:
    words = [
        inner
        for word in shlex.split(command, comments=True)
        for inner in (shlex.split(word) if "&&" in word else [word])
    ]
    (path,) = (word for word in words if word.startswith("scripts/"))
    if path.startswith("scripts/hooks/"):
        assert (ROOT / path).is_file()
    else:
        read(path.removeprefix("scripts/"), given_to(path, words))


def test_an_unknown_flag_is_detected() -> None:
    for script, words in {
        "plan.py": ["recipes/quickstart.yaml", "--gpu_mem", "6GiB"],
        "mine.py": ["recipes/quickstart.yaml", "--explain"],
        "train.py": ["recipes/quickstart.yaml", "--gpu_memory", "6GiB"],
        "search.py": ["recipes/quickstart.yaml", "question", "--count", "0"],
        "generate.py": ["runs/project", "--lin", "40"],
        "benchmark.py": ["sorting"],
        "export.py": ["runs/project", "--dtype", "int4"],
        "quickstart.sh": ["~/src/project", "--unknown", "value"],
    }.items():
        with pytest.raises(UserError):
            read(script, words)


def constants(node: ast.AST) -> list[str]:
    """The text of a string in a syntax tree."""
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_the_server_accepts_the_flags_in_the_docs() -> None:
    served = [command for command in COMMANDS if command.startswith("transformers serve")]
    known = {f"--{name.replace('_', '-')}" for name in signature(Serve).parameters}
    for command in served:
        assert {word for word in shlex.split(command, comments=True) if word.startswith("--")} <= known
    assert "--continuous-batching" in known
    assert served


def test_messages_quoted_for_troubleshooting_exist_in_the_code() -> None:
    """Each message of the tables, between its varying parts, is in one string of the code."""
    strings = {
        word
        for path in (ROOT / "blocklm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for word in constants(node)
    }
    spaced = {" ".join(re.split(r"%[-.\d]*\w", text)) for text in strings} | strings
    messages = re.findall(r"`` (.*?) ``", TROUBLESHOOTING)
    assert len(messages) >= 15
    for message in messages:
        for fragment in filter(None, (part.strip(" `") for part in message.split("…"))):
            assert any(fragment in text for text in spaced), fragment


def test_every_path_in_backticks_exists() -> None:
    for path in re.findall(r"`((?:scripts|recipes|blocklm|tests|docs)/[\w./-]*)`", TEXTS):
        assert (ROOT / path).exists(), path


def anchors_of(page: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings: lower case, words joined by dashes, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(name: str, page: str) -> list[str]:
    """The links of a page that lead to no file of this repository, or to no heading of one."""
    links = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", page)
    broken = []
    for link in (markdown or image for markdown, image in links):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        inside = link.startswith(("https://", "http://")) or (
            target.is_file() and (not anchor or anchor in anchors_of(target.read_text()))
        )
        broken += [] if inside else [link]
    return broken


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_leads_to_a_file_and_heading(name: str) -> None:
    assert not broken_links(name, PAGES[name])


def test_a_broken_link_is_detected() -> None:
    page = "[a](gpu.md) [b](gone.md) [c](gpu.md#measure-your-card) [d](gpu.md#gone) [e](#gone)\n# Here\n[f](#here)"
    assert broken_links("docs/new.md", page)[:3] == ["gone.md", "gpu.md#gone", "#gone"]


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"README.md"}))
def test_every_page_is_linked_from_the_readme(name: str) -> None:
    assert f"({name})" in README


def test_every_page_that_the_code_names_exists() -> None:
    files = [
        path for folder in ("blocklm", "scripts", "recipes") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    named = {
        page
        for path in files
        if path.suffix in (".py", ".sh", ".yaml", ".html") or path.parent.name == "hooks"
        for page in re.findall(r"\bdocs/[\w-]+\.(?:md|html|png)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert not {page for page in named if not (ROOT / page).is_file()}
