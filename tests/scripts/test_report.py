"""The report of a run can be built again."""

from pathlib import Path

from tests.support.scripts import refused, run_in_process


def test_the_report_can_be_built_again_to_the_same_bytes(run: Path, workplace: Path) -> None:
    before = (run / "report.html").read_bytes()
    assert b"What the commit wrote" in before
    (run / "report.html").unlink()
    done = run_in_process("report.py", run, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "report.html")
    assert (run / "report.html").read_bytes() == before
    assert "holds no manifest.json" in refused(run_in_process("report.py", run.parent, cwd=workplace))
