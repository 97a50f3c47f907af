"""A script works in every locale and under every umask, and a name that no library can open is refused first."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.files import check_spelling, write_json
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import mine
from tests.conftest import ROOT
from tests.support.scripts import script_module

LATIN1 = os.fsdecode(b"caf\xe9")
SCRIPT = """
import sys
from pathlib import Path
from blocklm.console import console

with console():
    Path(sys.argv[1]).write_text("größer als 5 €")
    print(sys.argv[1], Path(sys.argv[1]).read_text())
"""


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}],
    ids=["C, and Python's UTF-8 mode forbidden", "standard streams in ASCII"],
)
def test_files_names_and_output_are_utf8_in_every_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "script.py", "größe.txt"],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)} | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "größe.txt").read_bytes().decode() == "größer als 5 €"
    expected = "größe.txt größer als 5 €\n"
    assert done.stdout.decode() in (expected, expected.encode("ascii", "backslashreplace").decode())


def test_our_files_are_readable_whatever_the_umask_is(tmp_path: Path) -> None:
    script = SCRIPT.replace("    Path(sys", "    Path('folder').mkdir()\n    Path(sys", 1)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "script.py", "file"]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, umask=0o727)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "file")]
    assert modes == [0o750, 0o640], "what others may do stays as the user has it"


def test_a_repository_whose_path_is_no_utf8_is_mined(project: Path, tmp_path: Path) -> None:
    repository = shutil.copytree(project, tmp_path / LATIN1 / "project")
    for source in (f"{repository}", f"file://{repository}"):
        mining = MiningArguments(repo=[source], corpus_dir=str(tmp_path / "corpora"))
        changes = mine(open_repositories(mining), mining)
        assert (changes.report["repository"]["name"], changes.report["repository"]["commits"]) == ("project", 35)


def test_a_corpus_whose_path_is_no_utf8_is_refused_in_two_lines(project: Path, tmp_path: Path) -> None:
    """Arrow cannot open it, and would fail only after the work."""
    mining = MiningArguments(repo=[str(project)], corpus_dir=str(tmp_path / LATIN1))
    with pytest.raises(UserError, match=r"`corpus_dir` .*caf\ufffd is not spelled in UTF-8"):
        open_repositories(mining)
    with pytest.raises(UserError, match="`output_dir`"):
        check_spelling("output_dir", Path(LATIN1))
    check_spelling("output_dir", Path("größe"))


def test_a_path_that_is_no_utf8_can_be_written_down_and_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"repo": LATIN1, "name": "größe"})
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"repo": LATIN1, "name": "größe"}
    assert "größe" in text


def calls_without_encoding(path: Path) -> Iterator[str]:
    """Find the calls whose text encoding depends on the locale."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            keywords = {keyword.arg for keyword in node.keywords}
            if name in ("read_text", "write_text", "fdopen") and "encoding" not in keywords:
                yield f"{path.name}:{node.lineno} {name}"
            if name in ("run", "Popen", "check_output") and keywords & {"text", "universal_newlines"}:
                yield f"{path.name}:{node.lineno} text"


def test_every_file_and_process_sets_its_encoding() -> None:
    files = [*(ROOT / "blocklm").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert [call for path in files for call in calls_without_encoding(path)] == []


def test_the_flags_of_a_script_are_taken_from_between_the_keys_of_a_recipe() -> None:
    parser = script_module("plan.py").command_line()
    for given in (["--gpu_memory", "6GiB"], ["--gpu_memory=6GiB"]):
        flags, keys = parser.parse_known_args(
            ["r.yaml", "--repo", "a", "b", *given, "--seed=1", "--test_commits", "-1"]
        )
        assert flags.gpu_memory == "6GiB"
        assert keys == ["r.yaml", "--repo", "a", "b", "--seed=1", "--test_commits", "-1"]


def test_a_flag_without_its_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    parser = script_module("plan.py").command_line()
    with pytest.raises(UserError, match="`--gpu_memory` expected one argument") as refused:
        parser.parse_known_args(["r.yaml", "--gpu_memory", "--seed", "1"])
    assert "--help" in refused.value.hint
    assert capsys.readouterr().err == "", "two lines, and no usage before them"


def test_the_help_shows_a_scripts_own_flags_beside_the_recipes_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for name, flags in {
        "plan.py": ["--gpu_memory SIZE"],
        "mine.py": ["--explain", "--probe"],
        "search.py": ["--count N", "--all_hits"],
    }.items():
        parser = script_module(name).command_line()
        with pytest.raises(SystemExit) as ended:
            parse_recipe(parser.parse_known_args(["--help"])[1], parser.format_help())
        shown = capsys.readouterr().out
        assert ended.value.code == 0
        assert all(flag in shown for flag in [*flags, "--max_length", f"scripts/{name}"])
