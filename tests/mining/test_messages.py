"""Messages lose people, and are told apart by whether they describe their change."""

import pytest

from blocklm.mining.messages import clean_message, says_something


def test_messages_lose_people_and_keep_their_sense() -> None:
    message = (
        "Fix the parser, thanks @grace\n\nMail ada@example.org if it breaks; see `@decorator` in a@b.\n\n\n\n"
        "signed-off-by: Ada Lovelace <ada@localhost>\nAuthor: Ada Lovelace\nCo-authored-by: Grace <grace@example.org>\n"
    )
    cleaned = clean_message(message)
    assert "Fix the parser" in cleaned
    for trace in ("ada", "Ada", "grace", "Grace", "example.org"):
        assert trace not in cleaned


def test_a_message_of_a_megabyte_is_cleaned_at_once() -> None:
    """The pattern for mails must not search every suffix of a long word again."""
    assert len(clean_message("a" * 1_000_000 + " @")) == 1_000_002


@pytest.mark.parametrize(
    "message",
    [
        "Fix overflow in checkpoint pruning",
        "feat(consensus): reject votes from jailed validators (#1234)",
        "修复 共识 模块 中的 溢出 错误 避免重复提交",
        "fix memory leak when the watcher restarts\n\nLong story.",
        "Merging iterators keeps their order",
        "Update dependencies to reduce build time",
    ],
)
def test_a_message_that_describes_its_change_counts(message: str) -> None:
    assert says_something(message)


@pytest.mark.parametrize(
    "message",
    [
        "", "wip", "local changes", "Merge branch 'main' into dev", "Merge pull request #12 from x/y", "minor fixes here",
        "v1.2.3 is out", "fix: bug", "Update README.md", "initial commit of project", "0.4.0 release candidate two",
        "chore: https://example.org/a/b/c", "small changes", "more changes to the thing",
    ],
)  # fmt: skip
def test_an_empty_phrase_does_not(message: str) -> None:
    assert not says_something(message)
