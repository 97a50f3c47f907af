"""Files hold exactly what was written, and are replaced in one step."""

from pathlib import Path

import pytest

from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.generation_eval import read_rows, write_rows
from blocklm.files import read_json_lines, replacing, write_json_lines
from blocklm.runs.report.examples import read_samples

# Each ends a line for `str.splitlines`; of these JSON escapes only the controls below U+0020.
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_a_line_of_json_ends_at_a_newline_alone(tmp_path: Path, end: str) -> None:
    rows = [{"step": 0, "item": "a", "output": f'text.replace("{end}", "")'}, {"step": 2, "item": "a", "output": end}]
    write_rows(tmp_path, rows)
    assert read_rows(tmp_path) == rows == read_samples(tmp_path / "samples.jsonl")
    with Answers(tmp_path / "answers") as answers:
        answers.add("key", end)
    assert Answers(tmp_path / "answers").get("key") == end


def test_half_a_surrogate_pair_is_read_back_unchanged(tmp_path: Path) -> None:
    """Python reads a file name that is not UTF-8 so; a strict encoder would end the run."""
    write_json_lines(tmp_path / "rows", [{"path": "caf\udce9.py", "text": "caf\u00e9"}])
    assert read_json_lines(tmp_path / "rows") == [{"path": "caf\udce9.py", "text": "caf\u00e9"}]
    assert "caf\u00e9".encode() in (tmp_path / "rows").read_bytes(), "what a person can read stays readable"


def test_a_torn_line_is_skipped_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'["a", 1]\n["b", \n\n["c", 3]\n\xff\n')
    assert read_json_lines(tmp_path / "rows", skip_torn=True) == [["a", 1], ["c", 3]]
    with pytest.raises(ValueError, match="Expecting value"):
        read_json_lines(tmp_path / "rows")
    assert read_json_lines(tmp_path / "absent") == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "a") as file:
        file.write(b"new")
        raise OSError("full")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]
