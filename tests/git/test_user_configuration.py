"""Mining depends on the commits alone, whatever git settings the user, the machine or the repository has."""

from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.git.repository import open_repository
from tests.conftest import GitRepository, history_of

CONFIG = """[core]
	quotePath = false
	bigFileThreshold = 1
	abbrev = 4
	attributesFile = {attributes}
	safecrlf = true
	pager = false
[color]
	ui = always
[diff]
	noprefix = true
	mnemonicPrefix = true
	algorithm = histogram
	renames = false
	context = 0
	interHunkContext = 40
	colorMoved = zebra
	submodule = log
	orderFile = /dev/null
	external = false
[diff "shout"]
	textconv = tr a-z A-Z <
[log]
	showSignature = true
	follow = true
	date = relative
[i18n]
	logOutputEncoding = latin1
[safe]
	bareRepository = explicit
[clone]
	defaultRemoteName = upstream
	rejectShallow = true
[remote "origin"]
	url = /nowhere
	fetch = +refs/heads/none:refs/heads/none
[fetch]
	recurseSubmodules = true
"""
VARIABLES = {
    "GIT_DIR": "/nowhere",
    "GIT_DIFF_OPTS": "-u0",
    "GIT_EXTERNAL_DIFF": "false",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "diff.noprefix",
    "GIT_CONFIG_VALUE_0": "true",
    "LANGUAGE": "de",
}
ATTRIBUTES = "*.py binary\n*.md diff=shout\n*.txt -diff eol=crlf\n"


@pytest.fixture
def villa(tmp_path: Path) -> GitRepository:
    """A few commits whose diffs depend on git's settings: a rename, a name beyond ASCII, several kinds of files."""
    repository = GitRepository(tmp_path / "villa")
    text = "".join(f"line {number}\n" for number in range(30))
    repository.commit("Build the house", {"haus.py": text, "lies.md": text, "tür.txt": text})
    repository.commit("Paint the door, grün", {"tür.txt": text.replace("line 7\n", "line 8\n")})
    repository.git("mv", "haus.py", "villa.py")
    repository.commit("Call it a villa", {"lies.md": text.replace("line 20\n", "")})
    return repository


@pytest.fixture
def unusual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure everything that a user can configure."""
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/attributes").write_text(ATTRIBUTES, encoding="utf-8")
    config = CONFIG.format(attributes=home / ".config/git/attributes")
    (home / ".gitconfig").write_text(config, encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_the_users_settings_have_no_effect_on_a_history(villa: GitRepository, request: pytest.FixtureRequest) -> None:
    before = history_of(villa.path)
    assert sorted(file.change_type for file in before[2].files) == ["modify", "rename"]
    assert all(file.diff.startswith("@@") for commit in before[:2] for file in commit.files)
    request.getfixturevalue("unusual")
    assert history_of(villa.path) == before


def test_the_attributes_of_the_users_home_have_no_effect(
    villa: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git reads them even with its configuration switched off."""
    before = history_of(villa.path)
    (tmp_path / "settings/git").mkdir(parents=True)
    (tmp_path / "settings/git/attributes").write_text(ATTRIBUTES, encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    assert history_of(villa.path) == before


def test_the_repositorys_settings_have_no_effect(villa: GitRepository) -> None:
    before = history_of(villa.path)
    config, info = villa.path / ".git/config", villa.path / ".git/info"
    config.write_text(config.read_text(encoding="utf-8") + CONFIG.format(attributes="/dev/null"), encoding="utf-8")
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
    assert history_of(villa.path) == before


@pytest.mark.usefixtures("unusual")
def test_a_url_is_cloned_and_fetched_with_the_users_settings(villa: GitRepository, tmp_path: Path) -> None:
    url, clones = f"file://{villa.path}", tmp_path / "clones"
    assert open_repository(url, clones).branches == 1
    villa.git("branch", "--move", "main", "trunk")
    sha = villa.commit("one more", {"neu.py": "x = 1\n"})
    assert open_repository(url, clones, fetch=True).head == sha


def test_the_users_settings_for_urls_are_used(
    villa: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://example.invalid/")
    assert open_repository("https://example.invalid/villa", tmp_path / "clones").name == "villa"


def test_a_refusal_quotes_gits_reason(villa: GitRepository, tmp_path: Path) -> None:
    """The repository exists, so a hint about zips alone would mislead the user."""
    config = villa.path / ".git/config"
    kept = config.read_text(encoding="utf-8")
    config.write_text(kept + "[broken\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad config line \d+ in file"):
        open_repository(villa.path, tmp_path)
    config.write_text(
        kept.replace("repositoryformatversion = 0", "repositoryformatversion = 1") + "[extensions]\n\timaginary = 1\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="imaginary"):
        open_repository(villa.path, tmp_path)
    config.write_text(kept, encoding="utf-8")
    with pytest.raises(UserError, match="Needed a single revision"):
        open_repository(villa.path, tmp_path, branch="nowhere")


def test_a_url_that_fails_is_refused_with_gits_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fatal: "):
        open_repository(f"file://{tmp_path}/nothing", tmp_path / "clones")


def test_a_machine_without_git_gets_a_clear_error(
    villa: GitRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="`git` cannot be started") as refused:
        open_repository(villa.path, tmp_path)
    assert "install git" in refused.value.hint
