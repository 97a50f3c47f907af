"""In a real repository the hook of the docs proposes a subject, stops no commit and changes no given words."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.assistant.assistant import Assistant
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import open_run
from tests.conftest import ROOT, GitRepository, function
from tests.support.scripts import script_environment

PAGE = (ROOT / "docs" / "using-the-model.md").read_text()
HOOK = ROOT / "scripts" / "hooks" / "prepare-commit-msg"
WRITES = "sed -i '1i Words of my own' \"$1\" #"  # an editor in which somebody writes a first line
Commit = Callable[..., tuple[int, str]]


@pytest.fixture
def repository(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    """A repository with the hook and a staged change."""
    made = make_repository("house")
    made.commit("Begin with a step", {"src/steps.py": function(1)})
    (made.path / ".git" / "hooks").mkdir(exist_ok=True)
    (made.path / ".git" / "hooks" / HOOK.name).symlink_to(HOOK)
    (made.path / "src" / "steps.py").write_text(function(1) + function(2))
    made.git("add", "--all")
    return made


@pytest.fixture
def commit(repository: GitRepository) -> Commit:
    """Commit with an editor, by default one that changes nothing; return exit code and newest message."""

    def committed(*arguments: str, proposer: str | None, editor: str = "true") -> tuple[int, str]:
        if proposer is not None:
            repository.git("config", "blocklm.generate", proposer)
        environment = script_environment() | {
            "GIT_EDITOR": editor, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
        }  # fmt: skip
        done = subprocess.run(
            ["git", "commit", "--quiet", *arguments],
            cwd=repository.path,
            env=environment,
            capture_output=True,
            check=False,
        )
        return done.returncode, repository.git("log", "-1", "--format=%B").strip()

    return committed


def test_a_run_proposes_the_subject(
    commit: Commit, repository: GitRepository, taught: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Configured as in the docs, with a base that is named relative to BlockLM's folder, as in the quickstart."""
    diff = repository.git("diff", "--staged")
    assistant = Assistant(open_run(taught), Decoding(40))
    (expected,) = assistant.answers([assistant.prompt_builder.subject(diff)])
    place = tmp_path / "a folder"
    shutil.copytree(taught, place / "runs" / "project")
    (place / "models").symlink_to(tiny_models["llama"].parent)
    recipe = place / "runs" / "project" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(tiny_models["llama"]), "models/llama"))
    (place / "scripts").symlink_to(ROOT / "scripts")
    (setting,) = re.findall(r'^git .* config blocklm\.generate "(.*)"$', PAGE, re.MULTILINE)
    words = setting.replace("$PWD", str(place)).replace(".venv/bin/python", shlex.quote(sys.executable))
    assert commit(proposer=words) == (0, expected.text.strip())
    assert expected.text.startswith("Add step")


@pytest.mark.parametrize(
    "arguments", [["-m", "Words of my own"], ["-F", "words"], ["-t", "words", "-e"], ["--amend", "--no-edit"]]
)
def test_a_given_message_is_not_changed(commit: Commit, repository: GitRepository, arguments: list[str]) -> None:
    (repository.path / "words").write_text("Words of my own\n")
    editor = "sed -i '2i And more' \"$1\" #" if "-t" in arguments else "true"
    code, message = commit(*arguments, proposer="echo Words of the model; true", editor=editor)
    assert code == 0
    assert "model" not in message
    assert message.startswith("Begin with a step" if "--amend" in arguments else "Words of my own")


@pytest.mark.parametrize(
    "proposer", [None, "false", "/nowhere/python generate.py", "kill -9 $$", "echo; true", "sleep 600; true"]
)  # fmt: skip
def test_a_model_that_fails_or_is_slow_stops_no_commit(
    commit: Commit, repository: GitRepository, proposer: str | None
) -> None:
    repository.git("config", "blocklm.seconds", "1")
    assert commit(proposer=proposer, editor=WRITES) == (0, "Words of my own")
    assert not list((repository.path / ".git").glob("*.blocklm"))


def test_an_empty_message_still_aborts_the_commit(commit: Commit) -> None:
    """An empty message is git's way to abort, and a proposal can be deleted."""
    empties = "sed -i 'd' \"$1\" #"
    code, message = commit(proposer="echo Words of the model; true", editor=empties)
    assert code != 0
    assert message == "Begin with a step"


def test_a_template_without_words_still_counts_as_a_message(commit: Commit, repository: GitRepository) -> None:
    (repository.path / "questions").write_text("# Why?\n")
    assert commit("-t", "questions", proposer="echo Words of the model; true", editor=WRITES) == (0, "Words of my own")


def test_a_diff_in_the_editor_does_not_count_as_a_message(commit: Commit) -> None:
    assert commit("--verbose", proposer="echo Words of the model; true") == (0, "Words of the model")


def test_the_comment_character_of_git_is_used(commit: Commit, repository: GitRepository) -> None:
    repository.git("config", "core.commentChar", ";")
    assert commit("--verbose", proposer="echo Words of the model; true") == (0, "Words of the model")


def test_the_hook_and_the_docs_agree() -> None:
    (commands,) = re.findall(r"```bash\n(cp scripts/hooks/.*?)```", PAGE, re.DOTALL)
    for command in commands.splitlines():
        assert f"#   {command}" in HOOK.read_text()


def test_one_line_is_proposed_above_gits_comments(commit: Commit) -> None:
    shows = "grep -q '^# Please enter' \"$1\" && sed -i '2i - ' \"$1\" #"
    code, message = commit(proposer="printf 'One\\nTwo\\n'; true", editor=shows)
    assert (code, message) == (0, "One\n-")
