"""Each reason against a push is found, one at a time."""

import platform
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.release.gate import reasons_against

GOOD: dict[str, Any] = {"exam": {"verdict": "better"}, "saved": {"differs_from_base": True}}
CLEAN: dict[str, Any] = {
    "canaries": {"planted": 8, "extracted": 0, "first_of_their_kind": 1},
    "regurgitation": {"asked": 32, "regurgitated": 1, "share": 0.0312, "span_tokens": 50},
    "redacted": {"in_history": 0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("# Card\n\nhead `0123456789abcdef0123456789abcdef01234567`\n")
    return tmp_path


def test_a_clean_run_passes(folder: Path) -> None:
    assert reasons_against(GOOD, CLEAN, folder) == []
    assert reasons_against(GOOD, CLEAN | {"canaries": None, "regurgitation": None}, folder) == []


@pytest.mark.parametrize(
    ("manifest", "audit", "expected"),
    [
        ({"exam": None}, {}, "no exam was run"),
        ({"exam": {"verdict": "worse", "delta_percent": 4.2}}, {}, "worse than its base (+4.2 %"),
        ({"saved": None}, {}, "not seen to differ"),
        ({"saved": {"differs_from_base": False}}, {}, "not seen to differ"),
        ({}, {"refused": "`repo` x does not exist"}, "could not be audited: `repo` x does not exist"),
        ({}, {"canaries": {"planted": 8, "extracted": 1, "first_of_their_kind": 0}}, "recites 1 of 8 canaries"),
        ({}, {"canaries": {"planted": 8, "extracted": 0, "first_of_their_kind": 2}}, "prefers 2 of 8 canaries"),
        (
            {},
            {"regurgitation": {"asked": 32, "regurgitated": 2, "share": 0.0625, "span_tokens": 50}},
            "2 of 32 answers",
        ),
        ({}, {"redacted": {"in_history": 1}}, "gives 1 secrets that stand in the history"),
    ],
)
def test_each_reason_alone_fails_the_gate(
    manifest: dict[str, Any], audit: dict[str, Any], expected: str, folder: Path
) -> None:
    (reason,) = reasons_against(GOOD | manifest, CLEAN | audit, folder)
    assert expected in reason


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "key AKIA" + "Q3EGRLPZX7VBN2TW", "README.md holds what looks like a secret or a person: aws"),
        ("recipe.yaml", "author: grace@navy.mil.us", "recipe.yaml holds what looks like a secret or a person: email"),
        (
            "adapter_config.json",
            '{"base": "/home/grace/models/x"}',
            "adapter_config.json names a folder of this machine",
        ),
        ("weights.bin", "hf_" + "t" * 34, "weights.bin holds the hub token"),
        ("README.md", "trained on enigma-host-7.", "README.md names a folder of this machine, or the machine"),
    ],
)
def test_files_with_secrets_or_traces_of_the_machine_fail_the_gate(
    name: str, text: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "t" * 34)
    monkeypatch.setattr(platform, "node", lambda: "enigma-host-7")
    (folder / name).write_text(text)
    (reason,) = reasons_against(GOOD, CLEAN, folder)
    assert reason.startswith(expected)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("push_to_hub: true", "`hub_model_id` is no name on the hub"),
        ("push_to_hub: true\nhub_model_id: a/b\nhub_strategy: every_save", "would push before the exam"),
        ("push_to_hub: true\nhub_model_id: a/b\nhub_always_push: true", "`hub_always_push` has no effect here"),
        ("push_to_hub: true\nhub_model_id: a/b", "which nobody else has"),
        ("save: best", "`save` cannot be 'best'"),
        ("use_peft: false\nsave: merged", "merges an adapter"),
        ("canaries: -1", "`canaries` cannot be -1"),
        ("hub_token: x", "may not stand in a recipe"),
    ],
)
def test_a_recipe_that_cannot_be_handed_over_is_refused_at_once(keys: str, expected: str, tmp_path: Path) -> None:
    given = "" if "use_peft" in keys else "use_peft: true\n"
    (tmp_path / "recipe.yaml").write_text(f"model_name_or_path: models/tiny\n{given}{keys}\n")
    with pytest.raises(UserError, match=expected.replace("(", r"\(")):
        parse_recipe([str(tmp_path / "recipe.yaml")])
