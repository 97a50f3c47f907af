"""A run as a user releases it: saved and checked, merged, audited, pushed to a loopback hub, loaded from there."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from blocklm.errors import UserError
from blocklm.models.loaded import LoadedModel
from blocklm.release.gguf import adapter_to_gguf, to_gguf
from blocklm.release.llama_cpp import checkout
from blocklm.release.merge import merge
from blocklm.release.quantised_gguf import quantise_all
from blocklm.release.verify import check_saved, reference_logits
from blocklm.runs.completed import open_run
from tests.conftest import ROOT
from tests.support.loopback_hub import TOKEN, LoopbackHub
from tests.support.scripts import run_script, script_environment
from tests.support.shared import build_once

BASE = "tester/tiny-base"


@pytest.fixture(scope="session")
def pushed(
    tmp_path_factory: pytest.TempPathFactory, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> Path:
    """The folder of a main job whose recipe sets a push, both forms and canaries.

    The files of the hub are beside the run.
    """

    def push(folder: Path) -> None:
        with LoopbackHub() as hub:
            files = {path.name: path.read_bytes() for path in tiny_models["llama"].iterdir()}
            hub.add(BASE, files | {"README.md": b"---\nlicense: bigcode-openrail-m\n---\n"})
            done = run_script(
                "train.py", tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["llama"], "--output_dir", "run",
                "--save", "both", "--canaries", "2", "--push_to_hub", "--hub_model_id", "tester/adapter", "--hub_base_model", BASE,
                "--load_in_4bit", "--behavioral_prompts", "def words_of_my_own(", cwd=folder, **hub.environment(folder / "home"),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            (folder / "hub").write_bytes(pickle.dumps((hub.repos, hub.objects)))

    return build_once(tmp_path_factory, "pushed", push)


@pytest.fixture(scope="session")
def hub(pushed: Path) -> Iterator[LoopbackHub]:
    """A hub that has the base model, with its licence, and what was pushed."""
    with LoopbackHub() as running:
        running.repos, running.objects = pickle.loads((pushed / "hub").read_bytes())
        yield running


@pytest.fixture(scope="session")
def run(pushed: Path) -> Path:
    """The run that was pushed; `copy` may be changed."""
    return pushed / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def content(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "manifest.json").read_text()))


def test_the_saved_model_computes_what_the_trained_one_did(run: Path) -> None:
    saved = content(run)["saved"]
    assert saved["differs_from_base"]
    assert saved["logit_error"] < 0.01 * saved["logit_change"]
    assert json.loads((run / "generation_config.json").read_text()) == {"eos_token_id": 0, "pad_token_id": 0}
    assert content(run)["corpus"]["splits"]["train"]["canaries"] == 2


def test_the_merged_model_answers_as_the_adapter(run: Path) -> None:
    """Trained on 4 bit and merged into 16 bit, it differs from the adapter by less than rounding explains."""
    merged = content(run)["merged"]
    assert merged["dtype"] == "float16"
    assert merged["share_lost_to_rounding"] < 0.1
    assert merged["same_greedy_text"]
    tensors = load_file(run / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert not any("lora" in name for name in tensors)
    assert "merged/model.safetensors" in {artifact["path"] for artifact in content(run)["artifacts"]}


def test_the_hub_gets_only_the_files_that_a_user_needs(run: Path, hub: LoopbackHub) -> None:
    files = hub.files("tester/adapter")
    assert set(files) == {
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "generation_config.json",
        "provenance.json", "recipe.yaml", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert hub.repos["tester/adapter"]["private"]
    assert [commit["title"] for commit in hub.repos["tester/adapter"]["commits"]][1:] == [
        f"Run at {content(run)['repository']['head'][:12]}"
    ], "one push, after the end"
    for name, file in files.items():
        for trace in (str(run.parent), str(ROOT), TOKEN, "Ada", "project", "words_of_my_own"):
            assert trace.encode() not in file, f"{trace} in {name}"
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == BASE
    assert yaml.safe_load(files["recipe.yaml"])["lora_r"] == 4
    provenance = json.loads(files["provenance.json"])
    assert provenance["files"]["adapter_model.safetensors"] == next(
        artifact["sha256"] for artifact in content(run)["artifacts"] if artifact["path"] == "adapter_model.safetensors"
    )
    assert content(run)["published"]["repo_id"] == "tester/adapter"
    assert content(run)["gate"] == {"passed": True, "reasons": [], "forced": False}


def test_the_card_has_the_exam_the_base_and_its_licence(run: Path, hub: LoopbackHub) -> None:
    card = ModelCard(hub.files("tester/adapter")["README.md"].decode())
    data: Any = card.data
    assert (data.base_model, data.library_name, data.license) == (BASE, "peft", "bigcode-openrail-m")
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results["bits per byte, tuned"] == pytest.approx(content(run)["exam"]["tuned"]["bits_per_byte"], abs=1e-4)
    assert "95 % interval" in card.text


def test_the_cards_code_loads_the_result_from_the_hub(run: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    """The code runs without any local file of the run, and loads the trained weights."""
    code = hub.files("tester/adapter")["README.md"].decode().split("```python\n")[1].split("```")[0]
    code += "import torch, sys; torch.save(model(torch.tensor([[5, 6, 7]])).logits, sys.argv[1])"
    environment = script_environment() | hub.environment(tmp_path / "home")
    got = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", code, str(got)], cwd=tmp_path, check=True, env=environment)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        json.loads((run / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    expected = PeftModel.from_pretrained(base, run)(torch.tensor([[5, 6, 7]])).logits
    assert torch.equal(torch.load(got), expected)


def test_a_run_that_was_pushed_is_not_pushed_twice(copy: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    commits = len(hub.repos["tester/adapter"]["commits"])
    done = run_script("train.py", copy / "recipe.yaml", cwd=tmp_path, **hub.environment(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert "already complete" in done.stdout
    assert len(hub.repos["tester/adapter"]["commits"]) == commits


def test_a_result_that_fails_the_gate_is_pushed_only_by_force_with_a_note(
    copy: Path, hub: LoopbackHub, tmp_path: Path
) -> None:
    exam = content(copy)["exam"] | {"verdict": "worse", "delta_percent": 3.0}
    (copy / "manifest.json").write_text(json.dumps(content(copy) | {"exam": exam}))
    twice = (
        "import runpy, sys\n"
        "for more in ([], ['--force']):\n"
        "    sys.argv = ['export.py', sys.argv[1], '--push_to_hub', 'tester/worse', *more]\n"
        "    try: runpy.run_path(sys.path[0], run_name='__main__')\n"
        "    except SystemExit as end: print('ended with', end.code)\n"
    )
    (tmp_path / "twice.py").write_text(twice.replace("sys.path[0]", repr(str(ROOT / "scripts" / "export.py"))))
    environment = script_environment() | hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "twice.py", str(copy)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("ended with 2\n"), done.stderr
    assert "is not pushed: the exam finds it worse than its base (+3.0 % bits per byte)" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(hub.repos["tester/worse"]["commits"]) == 2, "only the second was pushed"
    assert content(copy)["gate"]["forced"]
    assert "**Pushed by force.** It did not pass" in hub.files("tester/worse")["README.md"].decode()


def test_a_save_that_lost_trained_weights_is_detected(run: Path, tiny_models: dict[str, Path], tmp_path: Path) -> None:

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_models["llama"])

    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("merged", "checkpoint-*"))
    tokenizer = AutoTokenizer.from_pretrained(run)
    trained = LoadedModel(PeftModel.from_pretrained(base(), run), tokenizer, torch.float32)
    seen = reference_logits(trained, replace(trained, model=base()).opened())
    weights = tmp_path / "run" / "adapter_model.safetensors"

    def saved() -> Any:
        return PeftModel.from_pretrained(base(), tmp_path / "run")

    assert check_saved(tmp_path / "run", seen, saved)["logit_error"] == 0
    tensors = load_file(weights)
    save_file({name: tensor * ("lora_B" not in name) for name, tensor in tensors.items()}, weights)
    with pytest.raises(UserError, match="is not what was trained"):
        check_saved(tmp_path / "run", seen, saved)


def test_a_gguf_file_answers_as_the_merged_model(run: Path, tmp_path: Path) -> None:
    finished = open_run(run)
    found = to_gguf(finished, run / "merged", ROOT / "tests" / "support" / "converter", tmp_path / "gguf")
    assert found["bytes"] == (tmp_path / "gguf" / found["file"]).stat().st_size
    assert found["same_greedy_text"]
    assert found["max_logit_difference"] < 0.05
    modelfile = (tmp_path / "gguf" / "Modelfile").read_text()
    assert f"FROM ./{found['file']}\n" in modelfile
    assert 'PARAMETER stop "<|endoftext|>"' in modelfile
    with pytest.raises(UserError, match=r"has no convert_hf_to_gguf\.py"):
        checkout(tmp_path)


@pytest.mark.parametrize(
    ("fails", "error", "message", "hint"),
    [
        ("raise NotImplementedError('Architecture')", UserError, "py ended with 1: NotImpl", "newer checkout"),
        ("import sentencepieces", UserError, "No module named", "`python -m pip install sentencepieces`"),
        ("raise OSError(28, 'No space left on device')", OSError, "No space left on device", None),
    ],
)
def test_a_conversion_that_fails_leaves_the_earlier_files(
    run: Path, tmp_path: Path, fails: str, error: type[Exception], message: str, hint: str | None
) -> None:
    writes = "import sys\nfrom pathlib import Path\nPath(sys.argv[-1]).write_text('half')\n"
    (tmp_path / "convert_hf_to_gguf.py").write_text(writes + fails)
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model-f16.gguf").write_text("complete")
    with pytest.raises(error, match=message) as failed:
        to_gguf(open_run(run), run / "merged", checkout(tmp_path), tmp_path / "gguf")
    assert hint is None or hint in getattr(failed.value, "hint", "")
    assert [(path.name, path.read_text()) for path in (tmp_path / "gguf").iterdir()] == [
        ("model-f16.gguf", "complete")
    ]


def test_quantised_files_are_smaller_and_their_cost_is_measured(run: Path, tmp_path: Path, project: Path) -> None:
    converters, out = ROOT / "tests" / "support" / "converter", tmp_path / "gguf"
    llama_cpp = tmp_path / "llama.cpp"
    (llama_cpp / "build" / "bin").mkdir(parents=True)
    finished = open_run(run, ["--repo", str(project), "--corpus_dir", str(tmp_path / "corpora")])
    model = out / to_gguf(finished, run / "merged", converters, out)["file"]
    (said,) = quantise_all(finished, llama_cpp, model)
    assert said.startswith(f"16 bit only: there is no llama-quantize in `{llama_cpp}`")

    program = llama_cpp / "build" / "bin" / "llama-quantize"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {converters / "quantise.py"} "$@"\n')
    program.chmod(0o755)
    files = [out / name for name in ("model-f16.gguf", "model-q8_0.gguf", "model-q4_k_m.gguf")]
    said_while_there = [
        (line, [file for file in files if file.exists()]) for line in quantise_all(finished, llama_cpp, model)
    ]
    assert [there for _, there in said_while_there] == [files[:1], files[:2], files, files, files], (
        "progress as it goes"
    )
    assert [line.split(",")[0] for line, _ in said_while_there[:2]] == ["quantising to Q8_0", "quantising to Q4_K_M"]
    lines = [line.split(", ") for line, _ in said_while_there[2:]]
    assert [line[0] for line in lines] == [f"{file}: {file.stat().st_size / 1e6:.1f} MB" for file in files]
    sizes = [file.stat().st_size for file in files]
    assert sizes == sorted(sizes, reverse=True)
    bits = [float(line[1].partition(" bits per byte on ")[0]) for line in lines]
    assert abs(bits[1] - bits[0]) < abs(bits[2] - bits[0]) < 0.2
    assert "FROM ./model-q8_0.gguf\n" in (out / "Modelfile").read_text()

    program.write_text("#!/bin/sh\necho half > $2\necho cannot read it >&2\nexit 3\n")
    with pytest.raises(UserError, match="llama-quantize ended with 3: cannot read it"):
        list(quantise_all(finished, llama_cpp, model))
    assert [file.stat().st_size for file in files] == sizes
    gone = open_run(run, ["--repo", str(tmp_path / "nowhere")])
    program.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    assert "is not measured: " in list(quantise_all(gone, llama_cpp, model))[2]


def test_an_adapter_s_gguf_holds_its_matrices(run: Path, tmp_path: Path) -> None:
    found = adapter_to_gguf(open_run(run), ROOT / "tests" / "support" / "converter", tmp_path)
    tensors = load_file(run / "adapter_model.safetensors")
    assert found == {
        "file": "adapter-f32.gguf",
        "bytes": (tmp_path / found["file"]).stat().st_size,
        "matrices": len(tensors) // 2,
    }
    assert found["matrices"] == 14
    other = tmp_path / "run"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("merged", "checkpoint-*"))
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, other / "adapter_model.safetensors")
    (tmp_path / "convert_lora_to_gguf.py").write_text(
        f"import shutil, sys\nshutil.copyfile({str(tmp_path / found['file'])!r}, sys.argv[-1])\n"
    )
    assert "unchecked" in adapter_to_gguf(open_run(other), tmp_path, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": True}))
    assert adapter_to_gguf(open_run(other), tmp_path, tmp_path) == {
        "refused": "llama.cpp has no place for `use_rslora`"
    }


def test_a_merge_replaces_only_an_earlier_merge(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other").write_text("dear to somebody")
    for out in (tmp_path / "models", copy, copy.parent, tmp_path / "models" / "other"):
        with pytest.raises(UserError, match="is not empty"):
            merge(open_run(copy), out)
    assert (tmp_path / "models" / "other").read_text() == "dear to somebody"
    before = (copy / "merged" / "model.safetensors").stat().st_ino
    merge(open_run(copy), copy / "merged")
    assert (copy / "merged" / "model.safetensors").stat().st_ino != before
    assert not list(copy.glob(".merged*"))


def test_a_merge_that_rounding_would_undo_is_refused(run: Path, tmp_path: Path) -> None:
    """An adapter whose effect is too small for 16 bit."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("merged", "checkpoint-*"))
    weights = tmp_path / "run" / "adapter_model.safetensors"
    save_file(
        {name: tensor * (1e-3 if "lora_B" in name else 1) for name, tensor in load_file(weights).items()}, weights
    )
    with pytest.raises(UserError, match=r"rounding to torch.bfloat16 would cost \d+ % of what the adapter changes"):
        merge(open_run(tmp_path / "run"), tmp_path / "merged", "bfloat16")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert merge(open_run(tmp_path / "run"), tmp_path / "merged", "float32")["share_lost_to_rounding"] < 0.01
