"""The benchmark measures what users run and compares with PyDriller itself; its numbers are not asserted."""

import re
from pathlib import Path

import pytest

from blocklm.benchmarks.mining import exactness_table
from blocklm.benchmarks.rendering import rendering_table
from tests.conftest import ROOT, GitRepository
from tests.support.scripts import refused, run_in_process, run_script


@pytest.mark.slow
def test_mining_prints_every_case_with_its_ratios(project: Path, tmp_path: Path) -> None:
    done = run_script("benchmark.py", "mining", "--repo", project, "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    assert title.startswith("project at ")
    assert "35 commits" in title
    cases = ["/ log -p", "git log -p", "PyDriller loop", "BlockLM cold", "BlockLM warm", "new commits"]
    assert all(case in line for case, line in zip(cases, lines, strict=True))


@pytest.mark.slow
def test_hygiene_is_measured_beside_mining(project: Path, tmp_path: Path) -> None:
    done = run_script("benchmark.py", "hygiene", "--repo", project, "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cases = [
        "project at ", "mining alone", "with rules, secrets", "curation after it", "PyDriller loop", "hygiene / mining alone",
        "hygiene / PyDriller loop",
    ]  # fmt: skip
    assert all(case in line for case, line in zip(cases, done.stdout.splitlines(), strict=True))


@pytest.mark.slow
def test_start_up_is_measured_beside_git_log(project: Path) -> None:
    done = run_script("benchmark.py", "startup", "--repo", project, "--rounds", "1", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    cases = ["project at ", "/ log -p", "git log -p", "mine.py cold", "mine.py warm", "new commits"]
    assert all(case in line for case, line in zip(cases, done.stdout.splitlines(), strict=True))


@pytest.mark.slow
def test_the_wait_for_the_server_is_measured(taught: Path, lamps: GitRepository) -> None:
    given = ("--run", taught, "--repo", lamps.path, "--rounds", "1")
    done = run_script("benchmark.py", "serving", *given, cwd=taught.parent)
    assert done.returncode == 0, done.stderr
    cases = ["run on house: ", "tokens read", "new place", "same again", "one more character"]
    assert all(case in line for case, line in zip(cases, done.stdout.splitlines(), strict=True))


def test_rendering_says_what_it_would_take_to_store_all_prompts(project: Path) -> None:
    title, samples, disk, drawn = rendering_table([project], rounds=1)
    assert title.startswith("project at ")
    assert "samples of all views" in samples
    times = re.search(r"with the prompts of all places .* ([\d.]+) times as much", disk)
    assert times is not None and float(times[1]) > 1
    assert re.search(r"prompts of [\d,]+ drawn places: .* ms each", drawn)


def test_exactness_compares_every_commit(project: Path) -> None:
    assert list(exactness_table([project])) == ["project: 35 commits and 37 changed files compared, 0 differ"]


def test_serving_without_a_run_is_refused(tmp_path: Path) -> None:
    assert "name a completed run with `--run`" in refused(run_in_process("benchmark.py", "serving", cwd=tmp_path))


def test_a_folder_without_history_is_refused(tmp_path: Path) -> None:
    done = run_in_process("benchmark.py", "exactness", "--repo", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a git repository" in done.stderr
