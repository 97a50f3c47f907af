"""What the README says can be done: its commands parse, its paths exist, its numbers name their conditions."""

import ast
import re
import shlex
from argparse import ArgumentParser
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
from transformers.cli.serve import Serve

from blocklm.assistant.arguments import add_flags
from blocklm.config.check import CheckArguments
from blocklm.config.exam import ExamArguments
from blocklm.config.mining import MiningArguments
from blocklm.config.recipe import parse_recipe
from blocklm.corpus.explain import taken
from tests.conftest import ROOT

README, GUIDE = ((ROOT / name).read_text() for name in ("README.md", "docs/guide.md"))
TEXTS = README + GUIDE
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXTS, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]

KEYS = (CheckArguments, ExamArguments, MiningArguments)  # what may be given to a run that is complete
FLAGS_OF_SCRIPTS = ["--explain", "--gpu_memory", "--count"]  # beside the recipe's keys
SWITCHES_OF_SCRIPTS = {"--probe", "--json", "--files", "--rebuild", "--all_hits"}


def test_the_readme_is_short_and_begins_with_a_command() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("bash ") for line in lines[:14])
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_what_exists_and_flags_that_parse(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)
    for word in words:
        if re.match(r"^(scripts|recipes)/|^accelerate_config", word):
            assert (ROOT / word).exists(), word
    recipes = [at for at, word in enumerate(words) if re.match(r"recipes/\w+\.yaml", word)]
    if recipes:
        asked = words[recipes[0] - 1] == "scripts/search.py"  # the question comes right after the recipe
        keys = words[recipes[0] + 1 + asked :]
        for flag in FLAGS_OF_SCRIPTS:
            keys, _ = taken(keys, flag)
        parse_recipe([str(ROOT / words[recipes[0]]), *[key for key in keys if key not in SWITCHES_OF_SCRIPTS]])


def flags_of(script: Path) -> set[str]:
    """The flags that a script names in its code, and the keys that may be given to a run that is complete."""
    text = script.read_text()
    found = {word for node in ast.walk(ast.parse(text)) for word in constants(node) if word.startswith("--")}
    if "finished_run" in text:
        found |= {f"--{key.name}" for keys in KEYS for key in fields(keys)}
    return found


def constants(node: ast.AST) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


@pytest.mark.parametrize("command", [command for command in COMMANDS if "scripts/" in command])
def test_a_command_gives_a_script_flags_that_it_knows(command: str) -> None:
    words = shlex.split(command, comments=True)
    at = next((at for at, word in enumerate(words) if re.fullmatch(r"scripts/\w+\.py", word)), None)
    if at is None or words[at] == "scripts/benchmark.py" or any(word.startswith("recipes/") for word in words[at:]):
        return  # shell scripts hand their flags on, benchmarks have commands of their own, and recipes are parsed above
    given = [word.partition("=")[0] for word in words[at + 1 :] if word.startswith("--")]
    if words[at] == "scripts/generate.py":
        parser = ArgumentParser()
        parser.add_argument("run_dir")
        add_flags(parser)
        ends = [place for place, word in enumerate(words) if word in ("<", ">", "|") and place > at]
        parser.parse_args(words[at + 1 : min(ends, default=len(words))])
    else:
        assert set(given) <= flags_of(ROOT / words[at]), command


def test_the_server_knows_the_flags_that_the_guide_gives_it() -> None:
    served = [command for command in COMMANDS if command.startswith("transformers serve")]
    known = {f"--{name.replace('_', '-')}" for name in signature(Serve).parameters}
    for command in served:
        assert {word for word in shlex.split(command, comments=True) if word.startswith("--")} <= known
    assert "--continuous-batching" in known
    assert served


def test_what_the_guide_says_that_we_say_is_what_we_say() -> None:
    """Each message of its table, between what varies, stands in one string of the code."""
    said = {
        word
        for path in (ROOT / "blocklm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for word in constants(node)
    }
    spaced = {" ".join(re.split(r"%[-.\d]*\w", text)) for text in said} | said
    messages = re.findall(r"`` (.*?) ``", GUIDE)
    assert len(messages) >= 15
    for message in messages:
        for fragment in filter(None, (part.strip(" `") for part in message.split("…"))):
            assert any(fragment in text for text in spaced), fragment


def test_every_path_in_backticks_exists() -> None:
    for path in re.findall(r"`((?:scripts|recipes|blocklm|tests|docs)/[\w./-]*)`", TEXTS):
        assert (ROOT / path).exists(), path
