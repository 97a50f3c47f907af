"""What a tokenizer says is loaded with transformers once, and read from a file of ours after that."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers import AutoTokenizer
from trl import ModelConfig

from blocklm.errors import UserError
from blocklm.models import vocabulary as vocabulary_module
from blocklm.models.pretrained import load_tokenizer, load_tokenizer_alone, special_tokens
from blocklm.models.vocabulary import Vocabulary
from tests.conftest import ROOT, SIZES, function

Read = Callable[[Path], Vocabulary]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the vocabulary of a model, with one corpus folder for all."""
    return lambda model: Vocabulary.of({"model_name_or_path": str(model)}, False, tmp_path / "corpora")


@pytest.fixture
def model(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    """A model whose files a test may change."""
    return Path(shutil.copytree(tiny_models["starcoder2"], tmp_path / "model"))


def remembered(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "corpora" / ".tokenizers").iterdir()
    return path


@pytest.mark.parametrize("name", SIZES)
def test_a_vocabulary_agrees_with_the_tokenizer_of_transformers(
    name: str, tiny_models: dict[str, Path], read: Read
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models[name])
    for vocabulary in (read(tiny_models[name]), read(tiny_models[name])):
        assert frozenset(vocabulary.special_tokens) == special_tokens(tokenizer)
        assert vocabulary.start_tokens == len(tokenizer("").input_ids)
        text = function(3) + "<file_sep> <|endoftext|>  \t\täöü 漢字"
        ids = vocabulary.tokenizer().encode(text, add_special_tokens=False).ids
        assert ids == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", [*SIZES, "embedded"])
def test_the_common_class_is_loaded_alone_and_alike(name: str, tiny_models: dict[str, Path]) -> None:
    folder = tiny_models.get(name, ROOT / "models/smollm2-135m")
    alone, whole = load_tokenizer_alone(folder), load_tokenizer(ModelConfig(model_name_or_path=str(folder)))
    assert alone is not None
    assert type(alone) is type(whole)
    assert alone.backend_tokenizer.to_str() == whole.backend_tokenizer.to_str()
    assert special_tokens(alone) == special_tokens(whole)
    assert (alone("").input_ids, alone.pad_token) == (whole("").input_ids, whole.pad_token)
    assert alone.split_special_tokens == whole.split_special_tokens


def test_loading_a_tokenizer_alone_imports_no_torch(model: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from blocklm.models.pretrained import load_tokenizer_alone\n"
        "assert load_tokenizer_alone(Path(sys.argv[1])) is not None\n"
        "assert 'transformers' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(model)], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "tokenizer.Own"]}}),
        ("config.json", {"auto_map": {"AutoConfig": "config.Own"}}),
        ("config.json", {"vocab_size": None}),
        ("config.json", {"text_config": {"vocab_size": 5}}),
        ("tekken.json", {}),
    ],
)
def test_any_other_tokenizer_is_not_loaded_alone(file: str, setting: dict[str, Any], model: Path) -> None:
    path = model / file
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | setting))
    assert load_tokenizer_alone(model) is None


def test_a_second_use_loads_no_tokenizer(model: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(model)
    monkeypatch.setattr(vocabulary_module, "load_tokenizer", None)
    monkeypatch.setattr(vocabulary_module, "load_tokenizer_alone", None)
    assert read(model) == first


def test_a_tokenizer_whose_files_have_changed_is_loaded_again(model: Path, read: Read) -> None:
    before = read(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    tokenizer.save_pretrained(model)
    after = read(model)
    assert set(after.special_tokens) - set(before.special_tokens) == {"<new>"}
    assert after.digest != before.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("<file_sep>", "<file_sup>"),
        lambda text: "[]",
        lambda text: json.dumps({"digest": "", "vocabulary": {}}),
    ],
    ids=["cut", "changed", "of another kind", "without keys"],
)
def test_a_damaged_file_is_written_again(
    damage: Callable[[str], str], model: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(model)
    path = remembered(tmp_path)
    path.write_text(damage(path.read_text()))
    assert read(model) == first
    monkeypatch.setattr(vocabulary_module, "load_tokenizer", None)
    monkeypatch.setattr(vocabulary_module, "load_tokenizer_alone", None)
    assert read(model) == first


def test_a_hub_model_is_identified_by_its_cached_files(
    model: Path, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Path("models--tiny--coder")
    for revision in ("a" * 40, "b" * 40):
        shutil.copytree(model, tmp_path / "hub" / name / "snapshots" / revision)
    head = tmp_path / "hub" / name / "refs" / "main"
    head.parent.mkdir()
    head.write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    first = read(Path("tiny/coder"))
    monkeypatch.setattr(vocabulary_module, "load_tokenizer", None)
    monkeypatch.setattr(vocabulary_module, "load_tokenizer_alone", None)
    assert read(Path("tiny/coder")) == first
    (tmp_path / "hub" / name / "snapshots" / ("b" * 40) / "config.json").write_text("{}")
    head.write_text("b" * 40)
    with pytest.raises(TypeError):
        read(Path("tiny/coder"))


def test_a_missing_directory_is_refused(model: Path, read: Read) -> None:
    read(model)
    shutil.rmtree(model)
    with pytest.raises(UserError, match="does not exist"):
        read(model)
