"""The tables in `docs/configuration.md` are those of the dataclasses."""

from tests.conftest import ROOT
from tests.support.scripts import script_module

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_documented_keys_are_those_of_the_code() -> None:
    current = script_module("document_keys.py").with_key_tables(PAGE)
    assert current == PAGE, "run `python scripts/document_keys.py` and commit docs/configuration.md"


def test_a_changed_row_is_noticed_and_the_text_around_the_tables_stays() -> None:
    changed = PAGE.replace("| `repo` |", "| `repository` |").replace("# Configuration", "# Keys")
    written = script_module("document_keys.py").with_key_tables(changed)
    assert written == PAGE.replace("# Configuration", "# Keys") != changed
