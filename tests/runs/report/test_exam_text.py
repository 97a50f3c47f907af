"""The exam's text shows every arm, and how uncertain the result is."""

from blocklm.runs.report.exam_text import exam_text

SURE = {"delta_percent": -5.0, "ci95": [-7.0, -3.0], "verdict": "better"}
UNSURE = {"delta_percent": -2.0, "ci95": [-6.0, 2.0], "verdict": "no detectable change"}


def test_the_text_gives_the_interval() -> None:
    result = {
        "commits": 7, "items": 20, "added_bytes": 900, "base": {"bits_per_byte": 1.0}, "tuned": {"bits_per_byte": 0.9},
        "delta_percent": -10.0, "ci95": [-25.0, 5.0], "verdict": "no detectable change", "commits_needed": 60,
        "control": {"bits_per_byte": 0.95},
        "arms": {"control": {"bits_per_byte": 0.95, "against_base": SURE, "tuned_against_it": UNSURE}}, "tasks": {},
        "slices": {"lines": [{"name": "some new", "items": 18, "base": 1.1, "tuned": 1.0} | SURE]}, "forgetting": {"rise_percent": 4.2, "flagged": True},
    }  # fmt: skip
    table = exam_text(result)
    assert "no detectable change" in table
    assert "7 commits and is 30.0 points wide" in table
    assert "about 60 such commits would be needed" in table
    assert "general text and code: +4.2 % bits, more than 3: the model forgets" in table
    plain = table.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    (control,) = [line.split("  ") for line in plain.split("\n") if line.startswith("  control")]
    cells = [cell.strip() for cell in control if cell.strip()]
    assert cells == [
        "control",
        "0.9500",
        "-5.0 %",
        "-7.0 % to -3.0 %",
        "-2.0 %",
        "-6.0 % to +2.0 %",
        "no detectable change",
    ]
    (lines,) = [line.split() for line in plain.split("\n") if line.startswith("  lines some new")]
    assert lines == [
        "lines",
        "some",
        "new",
        "18",
        "1.100",
        "→",
        "1.000",
        "-5.0",
        "%",
        "-7.0",
        "%",
        "to",
        "-3.0",
        "%",
        "better",
    ]
