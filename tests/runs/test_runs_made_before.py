"""A run whose views and arms have other names today can be used, but not continued or asked again."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from blocklm.errors import UserError
from blocklm.runs.completed import open_run
from blocklm.runs.top_up import previous_run
from tests.support.scripts import run_in_process


@pytest.fixture
def earlier(taught: Path, tmp_path: Path) -> Path:
    """A run as an earlier version left it: taught `fim`, with an arm that is gone."""
    run = tmp_path / "run"
    shutil.copytree(taught, run)
    old = {
        "views": {"edit": 0.3, "fim": 0.3, "next_line": 0.2, "snapshot": 0.2}, "exam_view": "fim",
        "exam_arms": ["base", "base+examples", "tuned"],
    }  # fmt: skip
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | old
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["recipe"] |= old
    manifest["corpus"]["prompts"] = dict.fromkeys(old["views"], "plain")
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def test_it_is_generated_from_as_it_was_taught(earlier: Path, taught: Path) -> None:
    done = run_in_process("generate.py", earlier, "--prefix", "a = 1\n", "--suffix", "b\n", cwd=taught.parent)
    assert done.returncode == 0, done.stderr


def test_what_needs_its_samples_is_refused_with_the_reason(earlier: Path) -> None:
    with pytest.raises(UserError, match="`fim`, whose samples are no longer made"):
        open_run(earlier).corpus()


def test_it_is_not_continued(earlier: Path) -> None:
    run = open_run(earlier)
    assert run.recipe.exam.exam_arms == ["base", "tuned"]
    assert run.recipe.sampling.shares == pytest.approx({"edit": 0.3, "completion": 0.5, "file": 0.2})
    with pytest.raises(UserError, match="continuing would mix both"):
        previous_run(str(earlier), run.source.config)
