"""Files for llama.cpp and Ollama fill gaps with the tokens of training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from blocklm.corpus.places.infill_tokens import InfillTokens, infill_tokens
from blocklm.corpus.prompt_templates import FAMILIES
from blocklm.release.gguf import mark_gaps, modelfile

STARCODER2 = InfillTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<repo_name>", "<file_sep>"))


@pytest.mark.parametrize(
    ("family", "prefix", "middle", "files"),
    [
        ("starcoder2", "<fim_prefix>", "<fim_middle>", ("<repo_name>", "<file_sep>")),
        ("starcoder", "<fim_prefix>", "<fim_middle>", ("<reponame>", "<filename>")),
        ("qwen-coder", "<|fim_prefix|>", "<|fim_middle|>", ("<|repo_name|>", "<|file_sep|>")),
        ("granite", "<|fim_prefix|>", "<|fim_middle|>", ()),
        ("deepseek-coder", "<｜fim▁begin｜>", "<｜fim▁end｜>", ()),  # noqa: RUF001
        ("code-llama", "▁<PRE>", "▁<MID>", ()),
    ],
)
def test_each_family_marks_a_gap_with_its_own_tokens(
    family: str, prefix: str, middle: str, files: tuple[str, ...]
) -> None:
    markers = next(one.markers for one in FAMILIES if one.name == family)
    found = infill_tokens(markers | {"<eos>"})
    assert found is not None
    assert (found.prefix, found.middle, found.files) == (prefix, middle, files)


def test_a_vocabulary_without_repository_tokens_still_marks_gaps() -> None:
    """Granite has such a vocabulary."""
    found = infill_tokens(frozenset({"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}))
    assert found == InfillTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", ())
    assert infill_tokens(frozenset({"<|endoftext|>", "<repo_name>", "<file_sep>"})) is None, "SmolLM2's"


def test_the_modelfile_has_the_gap_template_and_stop_tokens() -> None:
    lines = modelfile("model.gguf", "<|endoftext|>", STARCODER2).splitlines()
    assert lines[:2] == [
        "FROM ./model.gguf",
        'TEMPLATE """{{ if .Suffix }}<fim_prefix>{{ .Prompt }}<fim_suffix>{{ .Suffix }}<fim_middle>'
        '{{ else }}{{ .Prompt }}{{ end }}"""',
    ]
    stops = {line.removeprefix("PARAMETER stop ") for line in lines if line.startswith("PARAMETER stop")}
    assert {'"<|endoftext|>"', '"<fim_middle>"', '"<file_sep>"', '"<repo_name>"'} <= stops


def test_sentencepiece_s_spaces_are_written_as_spaces() -> None:
    text = modelfile("m.gguf", "</s>", InfillTokens("▁<PRE>", "▁<SUF>", "▁<MID>", ()))
    assert "<PRE>{{ .Prompt }} <SUF>{{ .Suffix }} <MID>{{ else }}" in text


def test_a_model_without_such_tokens_gets_the_prompt_as_it_is() -> None:
    text = modelfile("m.gguf", "</s>", None)
    assert 'TEMPLATE """{{ .Prompt }}"""\nPARAMETER stop "</s>"\n' in text
    assert ".Suffix" not in text


@dataclass
class Run:
    """The attributes of a run that the conversion reads."""

    infill: InfillTokens | None
    tokenizer: Any = field(default_factory=lambda: Numbered())


class Numbered:
    """A tokenizer with the numbers of StarCoder2's tokens."""

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        known = {"<fim_prefix>": 1, "<fim_middle>": 2, "<fim_suffix>": 3, "<repo_name>": 5, "<file_sep>": 6}
        return [known[token] for token in tokens]


def test_naming_the_gap_tokens_changes_nothing_else_in_the_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(file, "starcoder2")
    writer.add_block_count(2)
    writer.add_token_list(["<|endoftext|>", "<fim_prefix>"])
    weight = np.arange(64, dtype=np.float16).reshape(8, 8)
    writer.add_tensor("token_embd.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    before = set(gguf.GGUFReader(file).fields)
    mark_gaps(file, Run(STARCODER2))  # type: ignore[arg-type]
    reader = gguf.GGUFReader(file)
    gap_tokens = {name.rpartition(".")[2]: reader.fields[name].contents() for name in reader.fields if ".fim_" in name}
    assert gap_tokens == {
        "fim_pre_token_id": 1, "fim_suf_token_id": 3, "fim_mid_token_id": 2, "fim_rep_token_id": 5, "fim_sep_token_id": 6,
    }  # fmt: skip
    assert before <= set(reader.fields)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["<|endoftext|>", "<fim_prefix>"]
    assert (reader.tensors[0].name, reader.tensors[0].data.tolist()) == ("token_embd.weight", weight.tolist())
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_file_of_a_model_without_such_tokens_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    mark_gaps(tmp_path / "model.gguf", Run(None))  # type: ignore[arg-type]
    assert (tmp_path / "model.gguf").read_bytes() == b"GGUF"
