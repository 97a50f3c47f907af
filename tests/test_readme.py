"""What the README says can be done: its commands parse, its paths exist, its numbers name their conditions."""

import re
import shlex
from pathlib import Path

import pytest

from blocklm.explain import taken
from blocklm.recipe import parse_recipe
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
TEXTS = README + (ROOT / "docs" / "guide.md").read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXTS, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]

FLAGS_OF_SCRIPTS = ["--explain", "--gpu_memory"]  # beside the recipe's keys


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
        keys = words[recipes[0] + 1 :]
        for flag in FLAGS_OF_SCRIPTS:
            keys, _ = taken(keys, flag)
        parse_recipe([str(ROOT / words[recipes[0]]), *[key for key in keys if key != "--probe"]])


def test_every_path_in_backticks_exists() -> None:
    for path in re.findall(r"`((?:scripts|recipes|blocklm|tests|docs)/[\w./-]*)`", TEXTS):
        assert (ROOT / path).exists(), path
