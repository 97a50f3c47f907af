"""Bots are recognised by complete names."""

import pytest

from blocklm.git.authors import is_bot, pseudonym


@pytest.mark.parametrize(
    ("name", "mail", "bot"),
    [
        ("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com", True),
        ("Renovate Bot", "bot@renovateapp.com", True),
        ("renovate", "x@example.org", True),
        ("Ada", "29139614+renovate[bot]@users.noreply.github.com", True),
        ("Ada", "29139614+renovate@users.noreply.github.com", True),
        ("my-project-bot", "x@example.org", True),
        ("Tony Abbott", "abbott@example.org", False),
        ("Robotham", "robot@example.org", False),
        ("", "", False),
    ],
)
def test_bots_are_recognised_by_complete_names(name: str, mail: str, bot: bool) -> None:
    assert is_bot(name, mail) == bot


def test_a_pseudonym_is_stable_within_a_repository_only() -> None:
    assert pseudonym("Ada", "ada@example.org", b"one") == pseudonym("Ada", "ada@example.org", b"one")
    assert pseudonym("Ada", "ada@example.org", b"one") != pseudonym("Ada", "ada@example.org", b"two")
    assert "Ada" not in pseudonym("Ada", "ada@example.org", b"one")
