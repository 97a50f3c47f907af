"""Pushes a run's result to the hub: fills a clean folder, applies the gate, pushes once, records it in the manifest.

The trainer itself never pushes: it would push the entire run directory, and before the exam. The recipe's `push_to_hub`
and `scripts/export.py --push_to_hub` both use this module.
"""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from blocklm.config.release import public_base
from blocklm.errors import UserError
from blocklm.evaluation.canaries import Canaries
from blocklm.evaluation.memorization import audit
from blocklm.files import digest, write_json
from blocklm.models.adapter import base_arm
from blocklm.release.gate import reasons_against
from blocklm.release.hub import check_reachable, licence_of, upload
from blocklm.runs.checkpoints import saved_weights
from blocklm.runs.completed import CompletedRun
from blocklm.runs.fingerprint import weights_of
from blocklm.runs.manifest import add_to_manifest
from blocklm.runs.model_card import CardContext, card_text

logger = logging.getLogger(__name__)

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
             "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json")  # fmt: skip
ADAPTER = ("adapter_model.safetensors", "adapter_config.json", *TOKENIZER)
MODEL = ("model.safetensors.index.json", "config.json", *TOKENIZER)
# Recipe keys that name data, places or accounts; only the keys that describe the method are published.
NOT_PUBLISHED = {"repo", "branch", "paths", "exclude", "corpus_dir", "output_dir", "boost", "author_weights", "continue_from",
                 "check_command", "check_binds", "behavioral_prompts", "logging_dir", "chat_template_path", "project",
                 "hub_model_id", "hub_base_model", "push_to_hub", "hub_private_repo", "model_name_or_path",
                 "run_name", "accelerator_config", "fsdp_config", "deepspeed", "resume_from_checkpoint"}  # fmt: skip


def push_run(
    run: CompletedRun, repo_id: str, private: bool, forced: bool = False, base_model: str | None = None
) -> str:
    """Push a run's result if it passes the gate; return its address.

    Args:
        run: complete run.
        repo_id: the repository on the hub, `ORGANISATION/NAME`.
        private: whether only its owners may see the repository.
        forced: if true, pushes a run that fails the gate, and says so in its model card and manifest; False by default.
        base_model: name of the base on the hub; None for the recipe's `hub_base_model`.

    Raises:
        UserError: the run fails the gate, or the hub refuses or does not answer.
    """
    if run.manifest["training"].get("rolled_back"):
        previous = run.manifest["training"]["continued_from"]["path"]
        raise UserError(f"`{run.path}` was rolled back: its result is that of `{previous}`", "push that run instead")
    base = public_base(run.source.name, base_model or run.recipe.handover.hub_base_model)
    check_reachable(repo_id)
    found = load_or_audit(run)
    with tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        ready, merged = Path(folder), run.recipe.handover.save == "merged"
        fill_upload_folder(ready, run, merged, repo_id, base)
        reasons = reasons_against(run.manifest, found, ready)
        _decide(run, reasons, forced)
        if reasons:
            fill_upload_folder(ready, run, merged, repo_id, base, tuple(reasons))
        address = upload(ready, repo_id, private, f"Run at {run.manifest['repository']['head'][:12]}")
    add_to_manifest(run.path, published={"repo_id": repo_id, "private": private, "address": address})
    return address


def load_or_audit(run: CompletedRun) -> dict[str, Any]:
    """Return the audit of the run's weights, stored in `audit.json` beside them; `refused` if it is not possible."""
    path, weights = run.path / "audit.json", weights_of(run.path)
    if path.is_file() and (kept := json.loads(path.read_text(encoding="utf-8")))["weights"] == weights:
        return dict(kept)
    try:
        corpus = run.corpus()
        run.stands_in_history("")
    except UserError as error:
        return {"refused": str(error)}
    tuned, samples = run.tuned(), corpus.splits["train"]
    ids = set(run.manifest["corpus"]["splits"]["train"]["heard"])
    rows = [row for row, name in enumerate(samples["id"][:]) if name in ids]
    read = corpus.places.fill(samples.select(rows)[:], int(run.manifest["plan"]["max_length"]))
    canaries = Canaries(int(run.manifest["training"]["seed"]), run.recipe.handover.canaries)
    base = base_arm(tuned, run.source.base)
    found = audit(tuned, base, samples, read, canaries, run.stands_in_history)
    write_json(path, found | {"weights": weights})
    return found


def fill_upload_folder(
    folder: Path, run: CompletedRun, merged: bool, repo_id: str, base: str, reasons: tuple[str, ...] = ()
) -> None:
    """Put into `folder` the files that users of the result need, without anything that concerns only this machine.

    Raises:
        UserError: the recipe hands over a merged model, and there is none.
    """
    source, adapter = (run.path / "merged", False) if merged else (run.path, run.adapted)
    if not source.is_dir():
        raise UserError(f"`{run.path}` has no merged model", f"run `python scripts/export.py {run.path}` to write it")
    names = ADAPTER if adapter else (*MODEL, *(path.name for path in saved_weights(source)))
    for path in (source / name for name in names):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    revision = None
    if adapter:
        config = json.loads((run.path / "adapter_config.json").read_text(encoding="utf-8"))
        revision = config.get("revision")
        write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": base})
    recipe = {
        key: value for key, value in run.recipe.resolved().items() if key not in NOT_PUBLISHED and value is not None
    }
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump({"model_name_or_path": base} | recipe, sort_keys=False), encoding="utf-8"
    )
    local = Path(run.source.name).expanduser()
    licence = licence_of(base, local if local.is_dir() else None)
    shown = CardContext(repo_id, base, revision, adapter, licence, reasons)
    (folder / "README.md").write_text(card_text(run.manifest, shown), encoding="utf-8")
    files = sorted(path for path in folder.iterdir() if path.name not in ("README.md", "provenance.json"))
    provenance = {
        "blocklm_version": run.manifest["blocklm_version"],
        "history": run.manifest["repository"]["head"],
        "corpus": run.manifest["corpus"]["key"],
        "base": {"name": base, "revision": revision},
        "files": {path.name: digest(path) for path in files},
        "forced": list(reasons),
    }
    write_json(folder / "provenance.json", provenance)


def _decide(run: CompletedRun, reasons: list[str], forced: bool) -> None:
    """Record the gate's verdict in the manifest.

    Raises:
        UserError: there are reasons against the push, and it is not forced.
    """
    add_to_manifest(run.path, gate={"passed": not reasons, "reasons": reasons, "forced": forced and bool(reasons)})
    if reasons and not forced:
        raise UserError(
            f"`{run.path}` is not pushed: {'; '.join(reasons)}",
            "correct that and train again; `scripts/export.py RUN_DIR --push_to_hub NAME --force` pushes and says so",
        )
    for reason in reasons:
        logger.warning("pushed by force although %s", reason)
