"""People are removed from messages, and messages that describe their change are recognised."""

import pytest

from blocklm.mining.messages import clean_message, says_something


def test_people_are_removed_from_messages_and_the_text_stays_readable() -> None:
    message = (
        "Fix the parser, thanks @grace\n\nMail ada@example.org if it breaks; see `@decorator` in a@b.\n\n\n\n"
        "signed-off-by: Ada Lovelace <ada@localhost>\nAuthor: Ada Lovelace\nCo-authored-by: Grace <grace@example.org>\n"
    )
    cleaned = clean_message(message)
    assert "Fix the parser" in cleaned
    for trace in ("ada", "Ada", "grace", "Grace", "example.org"):
        assert trace not in cleaned


@pytest.mark.parametrize(
    "message",
    [
        "Use @dataclass for the config objects",
        "Add missing @Override annotations to visitors",
        "Bump @types/node from 18 to 20",
        "Update lodash@4.17.20 to lodash@4.17.21",
        "Author: show the author in the list view",
        "Cc: keep the copies of a mail",
        "From: parse the header as RFC 5322 says",
        "Reviewed-by: show the trailer in the sidebar",
        "Add @media print rules to the sheet",
        "Migrate from @Autowired to constructor injection",
        "Replace the loop by @cached_property",
        "Speed up imports thanks to @lru_cache",
        "Shorten the config thanks to @dataclass and @property",
        "Pin actions/checkout@v4 and react@next",
        "Thanks to @babel/core the build is faster",
        "Clone from git@github.com:pallets/click.git",
        "Fix the handling of @",
        "Annotate with @Nullable, @Inject and @Test",
        "Rename q@k.name to this@Fragment.context",
        "Scale icon@2x.png and logo@3x.svg",
        "Support user@host in targets",
        "Fix @click in the template of @vue/cli",
        "Add @font-face, @page and @counter-style",
        "Drop support for @app.route and @pytest.mark.slow",
    ],
)
def test_text_that_names_no_person_is_unchanged(message: str) -> None:
    assert clean_message(message) == message
    assert clean_message(f"Say more\n\n{message.replace(':', '')}") == f"Say more\n\n{message.replace(':', '')}"


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ("Fix the parser, thanks @grace", "Fix the parser, thanks <NAME>"),
        ("Fix it (thanks to @grace-h for the report)", "Fix it (thanks to <NAME> for the report)"),
        ("Fix it, reported by @ada, @grace and @joan-c.", "Fix it, reported by <NAME>, <NAME> and <NAME>."),
        ("Fix it\n\ncc @ada", "Fix it\n\ncc <NAME>"),
        ("Fix it\n\ncc: @ada @grace", "Fix it"),
        ("Add a flag by @ada in #12", "Add a flag by <NAME> in #12"),
        ("Fix it as @ada suggested", "Fix it as <NAME> suggested"),
        ("Fix it\n\n[@ada](https://github.com/", "Fix it\n\n[<NAME>](https://github.com/"),
        ("Take the patch of Ada Lovelace (@ada).", "Take the patch of Ada Lovelace (<NAME>)."),
        ("I spoke with @ada and decided so", "I spoke with <NAME> and decided so"),
        ("Mail ada@lovelace.dev or Ada <ada@lovelace.pl> for keys", "Mail <EMAIL> or Ada <EMAIL> for keys"),
        ("Ask Ada Lovelace <ada@example.org>", "<NAME> <EMAIL>"),
        ("Reported by jane.roe@mail.example.com", "Reported by <EMAIL>"),
        ("Contact ada@lovelace.rs about the licence", "Contact <EMAIL> about the licence"),
        ("Say it\n\nAuthor: Ada\nFrom: Ada\nCc: Ada\nSigned-off-by: Ada", "Say it"),
    ],
)
def test_people_are_removed_without_leaving_a_gap(message: str, cleaned: str) -> None:
    assert clean_message(message) == cleaned


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
def test_an_empty_phrase_is_no_description(message: str) -> None:
    assert not says_something(message)
