"""A recipe is read as strictly as a command line, and before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.config.sampling import DEFAULT_VIEWS
from blocklm.errors import UserError
from tests.conftest import ROOT


def read(folder: Path, text: str, *arguments: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text("model_name_or_path: models/any\n" + text)
    return parse_recipe([str(path), *arguments])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("learning_rat: 3", "unknown recipe key `learning_rat`", "did you mean `learning_rate`?"),
        ("torch_dtype: float16", "unknown recipe key `torch_dtype`", ""),
        ("max_length: 3\nmax_length: 4", "`max_length` more than once", "keep one"),
        ("lora_r: 16.5", "`lora_r` cannot be 16.5", "correct `lora_r`"),
        ("lora_r: [1, 2]", "`lora_r` takes one value", "single value"),
        ("seed: {a: 1}", "`seed` takes one value", "single value"),
        ("packing: 7", "`packing` cannot be 7", "correct"),
        ("exam: perhaps", "`exam` cannot be 'perhaps'", "correct"),
        ("dtype: bananas", "`dtype` cannot be 'bananas' (one of auto, bfloat16, float16, float32)", "correct"),
        ("save_strategy: sometimes", "(one of no, steps, epoch, best)", "correct"),
        ("optim: adamw_torch_fuse", "`optim` cannot be", "correct"),
        ("packing_strategy: bananas", "`packing_strategy` cannot be", "correct"),
        ("hub_token: hf_secret", "`hub_token` may not stand in a recipe", "HF_TOKEN"),
        ("fp16: true\nbf16: true", "both true", "at most one"),
        ("load_in_4bit: true\nload_in_8bit: true", "both true", "at most one"),
        ("exam_items: null", "`exam_items` may not be null", "leave it out"),
        ("repo: null", "`repo` may not be null", "leave it out"),
        ("repo: []", "`repo` names no repository", "leave `repo` out"),
        ("since: last week", "`since` is no date: 'last week'", "2024-01-31"),
        ("since: ''", "`since` is no date", "2024-01-31"),
        ("paths: ['[z-a]']", "`paths` holds no valid glob", ".gitignore"),
        ("repo: https://ada:hunter2@example.org/x", "may not hold a password", "credential helper"),
        ("repo: https://hunter2@example.org/x", "`repo` may not hold a password or token", "credential helper"),
        ("repo: https://example.org/x?private_token=hunter2", "`repo` may not hold a password or token", "helper"),
        ("replay_share: 1.0", "`replay_share` cannot be 1.0", "0 replays nothing"),
        ("context_lines: -1", "`context_lines` cannot be -1", "3 is git's own"),
        ("max_commits: 0", "`max_commits` must be at least 1", "correct"),
        ("exam_items: 0", "`exam_items` must be at least 1, got 0", "correct"),
        ("views: {poem: 1}", "`views` has no view 'poem'", "there are completion, next_edit, edit"),
        ("views: {edit: 1, fim: 1}", "`views` has no view 'fim' any more", "write `completion` instead"),
        ("views: {next_line: 1}", "`views` has no view 'next_line' any more", "write `completion` instead"),
        ("views: {edit: 1, snapshot: 1}", "`views` has no view 'snapshot' any more", "write `file` instead"),
        ("views: {edit: -1}", "`views` of edit cannot be -1", "from 0 up"),
        ("views: {edit: true}", "`views` of edit cannot be True", "from 0 up"),
        ("views: {message: 1}", "no share to a view that the exam can use", "give one of"),
        ("views: edit", "`views` is no mapping: 'edit'", "write it as"),
        ("boost: {'[z-a]': 2}", "`boost` holds no valid glob", ".gitignore"),
        ("boost: {2024: 2}", "`boost` cannot have 2024", "quote the name"),
        ("phases: {late: {share: .nan}}", "`phases` cannot have late", "give it a share"),
        ("phases: {late: {share: 1, span: ['0', 1]}}", "`phases` cannot have late", "a span such as"),
        ("recency: soon", "`recency` cannot be 'soon'", "auto, newest, off"),
        ("recency: -3", "`recency` cannot be '-3'", "number of days"),
        ("phases: {late: {span: [0, 1]}}", "`phases` cannot have late", "give it a share"),
        ("phases: {late: {share: 1, span: [1, 0]}}", "`phases` cannot have late", "a span such as"),
        ("phases: {late: {share: 1, speed: 2}}", "`phases` cannot have late", "no keys but"),
        ("exam_view: message", "`exam_view` cannot be 'message'", "completion, next_edit, edit"),
        ("exam_view: fim", "`exam_view` cannot be 'fim' any more", "write `completion`"),
        ("init_lora_weights: pissa\nuse_peft: true", "`init_lora_weights` cannot be 'pissa'", "gaussian or eva"),
        ("loraplus_lr_ratio: 0.5\nuse_peft: true", "`loraplus_lr_ratio` cannot be 0.5", "from 1 up"),
        ("loraplus_lr_ratio: 16", "`loraplus_lr_ratio` has no effect without LoRA", "use_peft: true"),
        ("use_dora: true", "`use_dora` has no effect without LoRA", "use_peft: true"),
        ("x: [", "is not readable YAML", "correct the file"),
        ("seed: 2024-13-45", "`seed` cannot be '2024-13-45'", "correct `seed`"),
        ("seed: 1:30", "`seed` cannot be 1:30", "correct `seed`"),
        ("lora_r: 0x10", "`lora_r` cannot be 0x10", "correct `lora_r`"),
        ("eval_strategy: off", "`eval_strategy` cannot be off (one of no, steps, epoch)", "correct"),
        ("paths: [src, null]", "`paths` holds None", "correct `paths`"),
        ('branch: "a\\0b"', "`branch` holds a NUL character", "correct `branch`"),
        ("? [a]\n: 1", "unknown recipe key", "--help"),
        ("x: !!bool maybe", "unknown recipe key `x`", "--help"),
        ("boost: '{a: 2024-13-45}'", "`boost` is no mapping", "write it as"),
        ("seed: -1", "`seed` cannot be -1", "from 0 up, at most 4.29497e+09"),
        ("data_seed: 4294967296", "`data_seed` cannot be 4294967296", "from 0 up"),
        ("lora_r: 0", "`lora_r` cannot be 0", "from 1 up"),
        ("lora_dropout: 1", "`lora_dropout` cannot be 1", "at most 0.9999"),
        ("learning_rate: .nan", "`learning_rate` cannot be nan", "from 0 up"),
        ("num_train_epochs: .inf", "`num_train_epochs` cannot be inf", "above 0"),
        ("max_steps: 0", "`max_steps` cannot be 0", "num_train_epochs"),
        ("log_level: no", "`log_level` cannot be 'no'", "it is one of"),
        ("chat_template_path: absent", "`chat_template_path` names `absent`", "leave it out"),
        ("max_steps: -2", "`max_steps` cannot be -2", "num_train_epochs"),
        ("save_steps: 0", "`save_steps` cannot be 0", "above 0"),
        ("metric_for_best_model: eval_accuracy", "`metric_for_best_model` cannot be 'eval_accuracy'", "eval_loss"),
        ("report_to: wandb", "`report_to: wandb` needs the package wandb", "leave `report_to` out"),
        ("report_to: [tensorboard, nothing]", "`report_to` cannot be 'nothing'", "tensorboard"),
        ("use_liger_kernel: true", "needs the package liger_kernel", "leave `use_liger_kernel` out"),
        ("attn_implementation: flash_attention_2", "needs the package flash_attn", "`sdpa` is PyTorch's own"),
        ("attn_implementation: flash", "`attn_implementation` cannot be 'flash'", "eager, sdpa"),
        ("optim: galore_adamw", "`optim: galore_adamw` needs the package galore_torch", "leave `optim` out"),
        ("use_peft: true\nlora_task_type: SEQ_CLS", "`lora_task_type` cannot be 'SEQ_CLS'", "leave it out"),
        ("use_peft: true\nlora_target_modules: []", "`lora_target_modules` holds an empty name", "leave it out"),
    ],
)
def test_a_bad_recipe_is_refused_with_its_cause_and_remedy(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert message in str(refused.value)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "flags", [["--learning_rat", "3"], ["--learning_rat=3"], ["--dtype", "x"], ["stray"], ["--max_steps"]]
)
def test_a_bad_command_line_is_refused_too(tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(UserError):
        read(tmp_path, "", *flags)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    recipe = read(tmp_path, "learning_rate: 1e-3\nseed: 1", "--seed", "5", "--gradient_checkpointing", "--repo=../x")
    assert recipe.training["learning_rate"] == 1e-3
    assert recipe.training["seed"] == 5
    assert recipe.training["gradient_checkpointing"] is True
    assert recipe.mining.repo == ["../x"]


def test_null_lists_and_mappings_arrive_as_written(tmp_path: Path) -> None:
    text = "max_length: null\nlora_target_modules: q_proj\ngradient_checkpointing_kwargs: {use_reentrant: true}"
    recipe = read(tmp_path, text)
    assert recipe.training["max_length"] is None
    assert recipe.model["lora_target_modules"] == ["q_proj"]
    assert recipe.training["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_a_number_where_text_belongs_is_read_as_text(tmp_path: Path) -> None:
    mining = read(tmp_path, "repo: 123\nbranch: 2024\nsince: 2024-01-31\npaths: [1, src]").mining
    assert (mining.repo, mining.branch, mining.since, mining.paths) == (["123"], "2024", "2024-01-31", ["1", "src"])


@pytest.mark.parametrize(
    "text",
    ["1.10", "0755", "1e3", "1_000", "0x1F", "12:30", "no", "On", "2024-01-31 10:00:00", "2024-13-45", "=", ".inf"],
)
def test_a_text_is_read_and_written_unchanged(tmp_path: Path, text: str) -> None:
    """YAML 1.1 would read each as another type, or fail."""
    recipe = read(tmp_path, f"branch: {text}\npaths: [{text}, src]\nrepo: {text}")
    assert (recipe.mining.branch, recipe.mining.paths, recipe.mining.repo) == (text, [text, "src"], [text])
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(recipe.resolved()))
    assert parse_recipe([str(tmp_path / "resolved.yaml")]) == recipe
    assert read(tmp_path, "", "--branch", text).mining.branch == text, "as on the command line"


def test_a_choice_is_read_verbatim(tmp_path: Path) -> None:
    recipe = read(tmp_path, "eval_strategy: no\nsave_strategy: no\npacking: yes\nload_in_4bit: on\nuse_peft: on")
    assert (recipe.training["eval_strategy"], recipe.training["save_strategy"]) == ("no", "no")
    assert (recipe.training["packing"], recipe.model["load_in_4bit"]) == (True, True)


def test_a_number_is_read_as_on_the_command_line(tmp_path: Path) -> None:
    """YAML would read the first as eight."""
    assert read(tmp_path, "lora_r: 010\nmax_gpu_temp: .inf\nlearning_rate: 1e-3").model["lora_r"] == 10


def test_merged_keys_and_anchors_are_read(tmp_path: Path) -> None:
    recipe = read(
        tmp_path, "branch: &name 1.10\nsince: 2024-01-31\ntemplate: *name\nphases: {a: &a {share: 1}, b: *a}"
    )
    assert recipe.sampling.template == "1.10"


def test_null_is_the_default_of_a_key_that_every_run_needs(tmp_path: Path) -> None:
    recipe = read(tmp_path, "output_dir: null\nddp_timeout: null\nreport_to: null\nsave_total_limit: null")
    assert str(recipe.output_dir) == "runs/default"
    assert recipe.training["report_to"] == ["tensorboard"]
    assert recipe.training["save_total_limit"] is None, "keeps all, as the library says"


def test_several_repositories_are_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "repo: [a, b]").mining.repo == ["a", "b"]
    assert read(tmp_path, "repo: a", "--repo", "b", "c").mining.repo == ["b", "c"]


def test_nothing_is_pushed_by_default(tmp_path: Path) -> None:
    recipe = read(tmp_path, "")
    assert recipe.training["push_to_hub"] is False
    assert recipe.training["hub_private_repo"] is True
    assert "trust_remote_code" not in recipe.training


def test_the_resolved_recipe_reads_back_to_the_same_run(tmp_path: Path) -> None:
    recipe = read(tmp_path, f"learning_rate: 1e-3\nlora_r: 8\nmax_train_samples: 9\noutput_dir: {tmp_path}/run")
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(recipe.resolved()))
    assert parse_recipe([str(tmp_path / "resolved.yaml")]) == recipe


def test_a_run_is_saved_with_the_views_that_are_the_default_today(tmp_path: Path) -> None:
    for text in ("", "views: null\n", "views: {}\n"):
        assert read(tmp_path, text).resolved()["views"] == DEFAULT_VIEWS
    assert read(tmp_path, "views: {edit: 1}\n").resolved()["views"] == {"edit": 1}


def test_reading_a_recipe_does_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model_name_or_path: x\n")
    code = (
        "import sys; from blocklm.config.recipe import parse_recipe; parse_recipe(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'datasets', 'pydriller')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "recipe.yaml")], check=True)


def test_an_unquoted_off_is_read_as_text(tmp_path: Path) -> None:
    assert read(tmp_path, "recency: off").sampling.recency == "off"


@pytest.mark.parametrize(("text", "read"), [("auto", "auto"), ("true", True), ("false", False)])
def test_packing_may_be_left_to_the_model(tmp_path: Path, text: str, read: object) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model_name_or_path: m\npacking: {text}\n")
    assert parse_recipe([str(recipe)]).training["packing"] == read
    recipe.write_text("model_name_or_path: m\n")
    assert parse_recipe([str(recipe), "--packing", text]).training["packing"] == read
    with pytest.raises(UserError, match="packing"):
        parse_recipe([str(recipe), "--packing", "perhaps"])


def test_bounds_of_the_epochs_must_leave_some(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model_name_or_path: m\nmin_epochs: 3\nmax_epochs: 2\n")
    with pytest.raises(UserError, match="leave no number of epochs"):
        parse_recipe([str(recipe)])


def test_the_recipe_of_an_earlier_run_can_be_read() -> None:
    """Without a key that it holds, no earlier run can be opened."""
    earlier = ROOT / "tests" / "data" / "recipe-of-an-earlier-run.yaml"
    assert parse_recipe([str(earlier)]).run.max_train_samples == 96
