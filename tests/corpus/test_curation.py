"""One history with every kind of change: what may be trained on, and what the exam may use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import Curated, curate
from blocklm.corpus.explain import explain
from blocklm.corpus.minhash import ShingledTexts
from blocklm.errors import UserError
from blocklm.git.repository import open_repository
from blocklm.mining.changes import Changes
from blocklm.mining.filters import RULE
from blocklm.mining.hunks import hunks_of
from blocklm.mining.mine import mine
from tests.conftest import STARCODER2_TOKENS, GitRepository, rendered
from tests.mining.test_redaction import BODY, CREDENTIALS, PEM
from tests.support.modules import COMMITS, POLICY, module

Make = Callable[[str], GitRepository]


def with_secrets(text: str) -> dict[str, str]:
    """Make a file for each kind of credential, with `text` around it."""
    return {f"src/{name.replace('.', '_')}.py": text.format("".join(parts)) for name, parts in CREDENTIALS.items()}


def leak_secrets(repository: GitRepository) -> None:
    """Secrets on added, context and removed lines, in a message and in a path."""
    leaked = CREDENTIALS["github"][1]
    more = {f"src/{leaked}.py": "x = 1\n", "src/pem.py": f"KEY = '''\n{PEM}\n'''\n"}
    repository.commit(f"Keys, and in the message {leaked}", with_secrets("import x\n# {}\n") | more)
    repository.commit("Keys as context", with_secrets("import x\n# {}\ny = 1\n"))
    repository.commit("Keys removed", with_secrets("import z\ny = 2\n") | {".env": "A=1\n", "server.pem": PEM})


def take_back(repository: GitRepository) -> None:
    """A commit and its revert."""
    risky = repository.commit("Risky", {"src/risky.py": module(500)})
    repository.git("revert", "--no-edit", risky)


def cherry_pick(repository: GitRepository) -> None:
    """A commit that lands twice."""
    repository.git("checkout", "--quiet", "-b", "side", "HEAD~2")
    repository.commit("On the side", {"src/side.py": module(600)})
    repository.git("checkout", "--quiet", "main")
    repository.git("cherry-pick", "side")
    repository.merge("side")


def move_about(repository: GitRepository) -> None:
    """Changes without new text."""
    repository.commit("Style", {"src/part_1.py": module(1).replace("    ", "\t")})
    repository.git("mv", "src/part_2.py", "src/renamed.py")
    repository.commit("Rename and edit", {"src/renamed.py": module(2, "LAST = 2\n")})
    repository.commit("Move", {"src/renamed.py": "LAST = 2\n", "src/moved.py": module(2)})
    repository.commit("fixup! Move", {"src/moved.py": module(2, "# fixed\n")})


def add_odd_files(repository: GitRepository) -> None:
    """Add files that are not text, or not text to learn from."""
    odd: dict[str, str | bytes] = {
        "src/latin.py": b"x = '\xe9'\n", "src/nul.py": b"x\0y\n", "src/crlf.py": "x = 1\r\ny = 2\r\n",
        "src/end.py": "x = 1", "Cargo.lock": "a\n", "src/long.py": f"x = '{'z' * 5_000_000}'\n",
        "src/token.py": "END = '<file_sep>'\n", "src/gen.py": "# @generated\nx = 1\n",
    }  # fmt: skip
    repository.commit("Odd files", odd)
    repository.commit("Nothing", {})


EVENTS = {3: leak_secrets, 8: take_back, 10: cherry_pick, 12: move_about, 13: add_odd_files}


def build_history(repository: GitRepository, newest: str = "") -> None:
    """Sixty commits of code, with one of each kind that may not be trained on or not be in the exam."""
    repository.commit("Old policy", {"src/old_policy.py": POLICY})
    repository.commit("Docs", {"docs/guide.md": "# Guide\n\nHow to begin with parts.\n", "data.json": '{"part": 1}\n'})
    for number in range(COMMITS):
        repository.commit(f"Add part {number}", {f"src/part_{number}.py": module(number)})
        EVENTS.get(number, lambda _: None)(repository)
    repository.commit("Old policy is new again", {"src/policy.py": POLICY.replace("RetryPolicy", "BackoffPolicy")})
    repository.commit("Docs again", {"docs/guide.md": "# Guide\n\nHow to go on with parts.\n"})
    repository.commit("Seen before", {"src/seen.py": "".join(module(0).splitlines(keepends=True)[:2])})
    repository.commit("Newest", {"src/newest.py": module(900, newest)})


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = GitRepository(tmp_path_factory.mktemp("curation") / "everything")
    build_history(repository)
    return repository.path


Built = tuple[Changes, Curated, Corpus]


def build(path: Path, corpora: Path, special: frozenset[str] = frozenset(), **settings: Any) -> Built:
    mining = MiningArguments(repo=[str(path)], corpus_dir=str(corpora), **settings)
    changes = mine([open_repository(path, corpora)], mining)
    curated = curate(changes, mining)
    return changes, curated, rendered(changes, curated, corpora, special)


@pytest.fixture(scope="module")
def built(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(history, tmp_path_factory.mktemp("corpora"))


def fate(built: Built, path: str) -> list[tuple[str | None, str | None]]:
    """Reason and split of each verdict or drop of a path, oldest first."""
    changes, curated, _ = built
    found: list[tuple[str | None, str | None]] = []
    for at, row in enumerate(changes.dataset):
        if row["path"] == path:
            if row["drop_reason"]:
                found.append((row["drop_reason"], None))
            else:
                found += [
                    (verdict["reason"], verdict["split"]) for verdict in curated.verdicts if verdict["row"] == at
                ]
    return found


@pytest.mark.parametrize(
    ("path", "reasons"),
    [
        ("src/part_0.py", [None]),
        ("src/risky.py", [None, "revert"]),
        ("src/side.py", [None, "cherry_pick"]),
        ("src/part_1.py", [None, "format"]),
        ("src/moved.py", ["move", "fixup"]),
        ("src/latin.py", ["undecodable"]),
        ("src/nul.py", ["binary"]),
        ("src/crlf.py", [None]),
        ("src/end.py", [None]),
        ("src/long.py", ["oversized"]),
        ("src/gen.py", ["generated"]),
        ("Cargo.lock", ["generated"]),
        (".env", ["key_file"]),
        ("server.pem", ["key_file"]),
        ("src/old_policy.py", ["leak"]),
        ("src/policy.py", [None]),
        ("docs/guide.md", [None, "not_asked"]),
        ("data.json", [None]),
    ],
)
def test_each_kind_of_change_is_kept_or_dropped_by_its_rule(
    built: Built, path: str, reasons: list[str | None]
) -> None:
    assert [reason for reason, _ in fate(built, path)] == reasons


def test_no_secret_is_in_any_file_on_disk(history: Path, tmp_path: Path) -> None:
    """Added, removed and context lines, a message, a path: the bytes of all files are searched."""
    build(history, tmp_path)
    secrets = {name: secret for name, (_, secret, _) in CREDENTIALS.items()} | {
        f"pem {at}": line for at, line in enumerate(BODY.split("\n"))
    }
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".arrow" for path in files) >= 5
    for path in files:
        content = path.read_bytes()
        found = [
            name
            for name, secret in secrets.items()
            if secret[-12:].encode() in content or secret[6:22].encode() in content
        ]
        assert not found, path


def test_redactions_are_counted_by_kind(built: Built) -> None:
    redactions = built[2].report["redactions"]
    assert any("private" in kind for kind in redactions)
    assert sum(redactions.values()) > 3 * len(CREDENTIALS)


def test_the_kinds_of_a_message_count_once(built: Built) -> None:
    """The commit changes thirty files, and each of its rows repeats the message."""
    rows = [row["redactions"] for row in built[0].dataset if row["message"].startswith("Keys, and in the message")]
    assert len(rows) > 25
    assert len(rows[0]) >= 2
    assert sorted(map(len, rows[1:]))[len(rows) // 2] == 1


def test_both_funnels_sum_to_their_totals(built: Built) -> None:
    changes, _, corpus = built

    def count(funnel: list[dict[str, int]]) -> int:
        return sum(entry.get("dropped", entry.get("kept", 0)) for entry in funnel)

    assert count(corpus.report["funnel"]) == len(changes.dataset)
    passed = sum(len(row["hunk_reasons"]) for row in changes.dataset)
    assert count(corpus.report["hunk_funnel"]) == passed
    assert all(entry["rule"] in RULE or entry["rule"] == "kept" for entry in corpus.report["funnel"])
    for row in changes.dataset:
        assert (row["drop_reason"] is not None) == (row["diff"] == "")
        assert row["drop_reason"] or len(hunks_of(row["diff"])) == len(row["hunk_reasons"])


def test_train_shares_no_text_with_validation_and_test(built: Built) -> None:
    """No commit and no text, exact or similar, is both in train and in validation or test."""
    train, *asked = built[2].splits.values()
    for split in asked:
        assert not set(split["commit"]) & set(train["commit"])
        texts = [*train["completion"], *split["completion"]]
        shingled = ShingledTexts(texts)
        near = shingled.similar(range(len(train), len(texts)), range(len(train)))
        assert not near
    leakage = built[2].report["leakage"]
    assert leakage["split"]["near_duplicate_bytes_percent"] == 0
    assert leakage["before_removal"]["near_duplicate_bytes_percent"] > 0
    assert leakage["random_split"]["verbatim_lines_percent"] > 0


def test_reverted_changes_and_documentation_weigh_less(built: Built) -> None:
    weights = {sample["path"]: sample["weight"] for sample in built[2].splits["train"]}
    ordinary = weights["src/part_0.py"]
    assert (weights["src/risky.py"] / ordinary, weights["docs/guide.md"] / ordinary) == pytest.approx((0.25, 0.3))


def test_exam_items_whose_lines_are_all_in_train_are_tagged(built: Built) -> None:
    seen = {sample["path"]: sample["seen_lines"] for sample in built[2].splits["test"]}
    assert (seen["src/seen.py"], seen["src/newest.py"]) == (True, False)


def test_the_splits_are_separated_by_a_gap(built: Built) -> None:
    split_of = [verdict["split"] for verdict in built[1].verdicts]
    reasons = [verdict["reason"] for verdict in built[1].verdicts]
    assert reasons.count("purge_gap") == split_of.count(None) > 0


def test_changing_a_test_commit_leaves_every_train_byte(make_repository: Make, tmp_path: Path) -> None:
    trains = []
    for name, newest in (("one", ""), ("two", "def other_newest(argument):\n    return argument + 12345\n")):
        repository = make_repository(f"{name}/everything")
        build_history(repository, newest)
        build(repository.path, tmp_path / name)
        (file,) = (tmp_path / name).rglob("samples-*/data/train/*.arrow")
        trains.append(file.read_bytes())
    assert trains[0] == trains[1]


def test_two_builds_give_identical_bytes(history: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        build(history, tmp_path / name)
        contents.append(
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.arrow")}
        )
    assert len(contents[0]) == 5
    assert contents[0] == contents[1]


def test_a_second_curation_is_read_from_the_cache(history: Path, tmp_path: Path) -> None:
    first, second = build(history, tmp_path), build(history, tmp_path)
    assert second[2].cache == "hit"
    assert first[1].verdicts[:] == second[1].verdicts[:]
    assert len(list((tmp_path / "everything").glob("curated-*"))) == 1


def test_placeholders_do_not_count_as_special_tokens(history: Path, tmp_path: Path) -> None:
    """StarCoder2 has `<KEY>` in its vocabulary, with the same meaning."""
    _, _, corpus = build(history, tmp_path, frozenset({*STARCODER2_TOKENS, "<KEY>"}))
    assert corpus.report["left_out"] == {"special_token": 1}
    assert any("<KEY>" in text for text in corpus.splits["train"]["completion"])


def test_rules_can_be_disabled_by_name(history: Path, tmp_path: Path) -> None:
    disabled = ["fixup", "generated", "cherry_pick", "near_duplicate"]
    built = build(history, tmp_path, disable_rules=disabled)
    assert [reason for reason, _ in fate(built, "src/gen.py")] == [None]
    assert [reason for reason, _ in fate(built, "src/moved.py")][-1] is None
    assert [reason for reason, _ in fate(built, "src/old_policy.py")] == ["leak"], "a leak is no matter of taste"
    with pytest.raises(UserError, match="names no rule that can be off: merge"):
        build(history, tmp_path, disable_rules=["merge"])


def test_explain_names_the_reason_and_the_key(built: Built) -> None:
    changes, curated, _ = built
    generated = list(explain(changes, curated, "src/gen.py"))
    assert generated[0].endswith("src/gen.py: dropped, generated")
    assert "`disable_rules: [generated]` keeps it" in generated[-1]
    old = list(explain(changes, curated, "./src/old_policy.py"))
    assert "0 of 1 hunks kept; dropped: 1 leak" in old[0]
    assert "no key changes that" in old[-1]
    assert "kept for train, weight 0.3" in " ".join(explain(changes, curated, "docs/"))
    sha = changes.dataset[3]["commit"]
    assert list(explain(changes, curated, sha[:8])) == [
        f"{sha[:12]} 2023-11-14 src/part_0.py: 1 of 1 hunks kept for train"
    ]
    with pytest.raises(UserError, match="no selected commit has that name or changes that path"):
        list(explain(changes, curated, "nowhere.py"))


def test_the_report_is_the_manifests(built: Built) -> None:
    assert {"funnel", "hunk_funnel", "redactions", "duplicates", "leakage", "splits"} <= set(built[2].report)
    json.dumps(built[2].report)
