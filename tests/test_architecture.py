"""Rooms import one way along the data flow; the data half never loads torch, the training half never PyDriller."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# importer: what it may import. A new edge is a decision: it is added here or not at all.
EDGES: dict[str, set[str]] = {
    "errors": set(),
    "interrupts": set(),
    "console": {"errors", "interrupts"},
    "schema": set(),
    "recipe_parser": {"errors"},
    "sampling": {"errors"},
    "lora_keys": {"errors"},
    "behaviour_keys": {"errors"},
    "exam_keys": {"errors", "sampling"},
    "check_keys": {"errors"},
    "handover_keys": {"errors"},
    "recipe": {"behaviour_keys", "check_keys", "errors", "exam_keys", "handover_keys", "lora_keys", "recipe_parser", "retrieval_keys", "sampling", "schema", "watch_keys"},
    "sterile": set(),
    "remote": {"errors"},
    "repository": {"errors", "recipe", "remote", "sterile"},
    "history": {"errors", "repository", "sterile"},
    "git_process": set(),
    "stream": {"git_process", "sterile"},
    "patches": set(),
    "people": set(),
    "commits": {"errors", "git_process", "history", "patches", "people", "repository", "sterile", "stream"},
    "messages": set(),
    "linguist": set(),
    "attributes": {"commits", "linguist", "repository", "sterile"},
    "hunks": set(),
    "hygiene": {"commits", "hunks", "linguist"},
    "credentials": set(),
    "armour": set(),
    "redaction": {"armour", "credentials", "errors"},
    "families": {"errors", "sampling"},
    "windows": set(),
    "views": {"families", "windows"},
    "weights": {"people", "sampling"},
    "repairs": {"messages"},
    "asked": {"weights"},
    "lessons": {
        "asked", "families", "hunks", "hygiene", "messages", "redaction", "repairs", "sampling", "splits", "views",
        "weights",
    },
    "splits": {"errors"},
    "store": set(),
    "analysis": {"messages"},
    "rows": {"attributes", "commits", "hunks", "hygiene", "linguist", "messages", "redaction", "store"},
    "changes": {
        "analysis", "attributes", "commits", "errors", "history", "hygiene", "repository", "rows", "store",
    },
    "benchmark": {
        "changes", "commits", "curation", "families", "history", "hygiene", "lessons", "recipe", "repository", "sampling",
        "snapshot", "sterile",
    },
    "throughput": {
        "corpus", "families", "lengths", "mining", "model", "reading", "recipe", "repository",
    },
    "mining": {"changes", "errors", "history", "hygiene", "recipe", "repository", "store"},
    "landing": set(),
    "units": {"hunks", "hygiene", "landing"},
    "shingles": set(),
    "verbatim": set(),
    "leakage": {"shingles", "units", "verbatim"},
    "curation": {
        "changes", "errors", "hunks", "hygiene", "landing", "leakage", "recipe", "shingles", "splits", "store", "units",
        "verbatim",
    },
    "explain": {"changes", "curation", "errors", "hygiene"},
    "tables": {"hygiene"},
    "snapshot": {"attributes", "changes", "commits", "hygiene", "repository", "rows", "store"},
    "corpus": {
        "asked", "changes", "curation", "errors", "families", "hunks", "lessons", "mining", "recipe", "redaction", "repairs",
        "repository", "sampling", "snapshot", "splits", "store", "views", "weights", "windows",
    },
    "grammars": set(),
    "definitions": {"grammars"},
    "trees": {"sterile"},
    "tasks.item": {"families", "lessons", "splits", "views", "windows"},
    "tasks.ripple": {"lessons", "tasks.item", "windows"},
    "tasks.body": {"definitions", "lessons", "tasks.item", "views"},
    "tasks.written_test": {"lessons", "tasks.body", "tasks.item", "terms", "views"},
    "tasks.imports": {"definitions", "lessons", "tasks.item", "views", "windows"},
    "tasks.which_file": {"lessons", "tasks.item", "views"},
    "tasks.dead_api": {"definitions", "lessons", "tasks.item", "views", "windows"},
    "tasks.past": {"definitions", "grammars", "lessons", "repository", "sterile", "trees"},
    "tasks.derive": {
        "lessons", "redaction", "repository", "tasks.body", "tasks.dead_api", "tasks.imports", "tasks.item", "tasks.past",
        "tasks.ripple", "tasks.which_file", "tasks.written_test",
    },
    "tasks.scores": {"tasks.item"},
    "precision": {"errors"},
    "phantom": {"model", "precision"},
    "memory": set(),
    "device": {"errors"},
    "plan": {"device", "errors", "memory", "model", "phantom", "precision"},
    "published": {"device", "plan", "precision"},
    "preflight": {"callbacks.samples"},
    "packing": set(),
    "fitting": {
        "device", "errors", "exam", "model", "packing", "plan", "precision", "preflight", "processes", "recipe",
        "report", "checkpoints",
    },
    "processes": {"errors"},
    "model": {"errors", "precision", "processes"},
    "lora": {"errors", "lora_keys"},
    "embedded": {"errors"},
    "encoding": {"store"},
    "lengths": {"encoding"},
    "curriculum": set(),
    "reading": {"curriculum", "encoding", "errors", "recipe", "sampling"},
    "probe": {"exam", "families", "items", "sampling", "views"},
    "callbacks.best": set(),
    "callbacks.estimate": set(),
    "callbacks.hardware": {"errors", "gauges", "interrupts", "machine", "nvml", "watch_keys"},
    "callbacks.interrupt": {"interrupts"},
    "callbacks.precision": {"precision"},
    "callbacks.progress": {"callbacks.estimate", "callbacks.hardware"},
    "callbacks.tensorboard": set(),
    "callbacks.tracked": {"packing"},
    "callbacks.spike": {"errors", "interrupts"},
    "callbacks.stall": set(),
    "callbacks.watchdog": {"errors"},
    "checkpoints": set(),
    "outcome": set(),
    "overhead": {
        "interrupts", "machine", "model", "nvml", "precision", "reading", "recipe", "training",
    },
    "gauges": set(),
    "machine": set(),
    "nvml": set(),
    "watch_keys": {"errors"},
    "watching": {
        "callbacks.hardware", "callbacks.progress", "callbacks.stall", "callbacks.tensorboard", "callbacks.tracked",
        "interrupts", "recipe", "report",
    },
    "trainer": {"callbacks.watchdog", "lora", "packing", "reading", "watching"},
    "training": {
        "callbacks.best", "callbacks.estimate", "callbacks.interrupt", "callbacks.precision", "callbacks.spike",
        "callbacks.watchdog", "checkpoints", "errors", "interrupts", "lora", "model", "outcome", "precision", "preflight",
        "reading", "recipe", "trainer", "watching",
    },
    "warden": set(),
    "sandbox": {"errors", "warden"},
    "checkout": {"repository", "sterile"},
    "trial": {"answers", "checkout", "questions", "repository", "sandbox", "warden"},
    "check": {
        "answers", "behaviour_keys", "generation", "questions", "sandbox", "saved", "significance", "sitting", "trial", "warden",
    },
    "terms": set(),
    "retrieval_keys": {"errors"},
    "documents": {"hunks", "store"},
    "embedding": {"errors", "retrieval_keys"},
    "vectors": set(),
    "qdrant": {"errors", "vectors"},
    "retrieval": {"terms", "vectors"},
    "indexing": {
        "changes", "curation", "documents", "embedding", "errors", "hunks", "hygiene", "qdrant", "recipe", "repository",
        "retrieval", "retrieval_keys", "snapshot", "store", "terms", "vectors",
    },
    "lookup": {
        "changes", "embedding", "hygiene", "indexing", "messages", "qdrant", "repository", "retrieval", "retrieval_keys",
        "vectors",
    },
    "recall": {"contexts", "finished", "indexing", "mining", "parents", "request", "retrieval"},
    "parents": {"redaction", "repository", "retrieval", "sterile", "terms", "trees"},
    "significance": set(),
    "items": {"encoding"},
    "answers": set(),
    "exam": {"answers", "errors", "items", "significance"},
    "contexts": {"families", "items", "parents", "terms"},
    "strength": {"exam", "items", "report"},
    "forgetting": {"items"},
    "sitting": {
        "answers", "contexts", "corpus", "embedding", "errors", "exam", "families", "forgetting", "items", "model", "parents",
        "practice", "recipe", "redaction", "repository", "saved", "splits", "tasks.problems",
    },
    "evaluation": {
        "adapters", "changes", "check", "corpus", "errors", "exam", "families", "finished", "items", "mining", "model", "repository",
        "saved", "significance", "sitting", "topup",
    },
    "examination": {"check", "exam", "model", "report", "saved", "sitting", "strength"},
    "exam_table": set(),
    "report": {"exam_table"},
    "card": {"exam_table"},
    "canaries": {"continuations", "encoding", "reading"},
    "audit": {"canaries", "encoding", "generation", "redaction"},
    "gate": {"canaries", "redaction"},
    "hub": {"errors"},
    "saved": {"errors", "report"},
    "finished": {
        "changes", "corpus", "errors", "families", "mining", "model", "precision", "recipe", "report", "repository", "sterile",
    },
    "region": {"errors", "views", "windows"},
    "pasted": {"commits", "errors", "hunks", "hygiene", "linguist", "redaction", "views"},
    "request": {"errors", "families", "hygiene", "pasted", "region", "views"},
    "terminal": {"generation"},
    "followups": {"hunks", "hygiene", "repairs", "weights"},
    "under_review": {"errors", "hygiene", "messages", "pasted", "redaction", "repository", "sterile", "stream", "views"},
    "past": {"followups", "under_review"},
    "forms": set(),
    "conversation": {"errors", "forms", "past", "under_review", "views"},
    "session": {"errors", "forms", "past", "redaction", "report"},
    "reviewer": {
        "assist", "conversation", "errors", "finished", "forms", "past", "redaction", "request", "session", "under_review",
    },
    "reviews": {"assist", "errors", "indexing", "past", "reviewer", "session", "under_review"},
    "assist": {
        "encoding", "errors", "families", "finished", "generation", "mining", "model", "recall", "redaction", "request", "terminal",
    },
    "origins": {"audit", "terms"},
    "batch": {"assist", "errors", "origins"},
    "export": {"errors", "finished", "generation", "saved"},
    "llama_cpp": {"errors", "export", "finished"},
    "handover": {"behaviour", "export", "finished", "model", "onward", "report", "saved", "topup"},
    "publish": {"audit", "card", "errors", "finished", "gate", "handover_keys", "hub", "model", "report", "saved"},
    "page": set(),
    "findings": {"page"},
    "provenance": {"hygiene", "page"},
    "specimens": {"page"},
    "curves": {"page"},
    "charts": {"curves", "page"},
    "html_report": {"card", "charts", "curves", "errors", "findings", "page", "provenance", "report", "specimens"},
    "topup": {"curriculum", "errors", "recipe", "report", "splits"},
    "adapters": {"errors"},
    "onward": {
        "adapters", "card", "changes", "corpus", "curation", "families", "model", "precision", "recipe", "topup",
    },
    "run_dir": {"errors", "recipe", "recipe_parser", "report"},
    "measures": {"grammars"},
    "metrics.chrf": {"measures"},
    "metrics.edit_similarity": {"measures"},
    "metrics.exact_match": {"measures"},
    "metrics.identifier_f1": {"measures"},
    "metrics.mrr": {"measures"},
    "metrics.parse_valid": {"measures"},
    "questions": {"behaviour_keys", "encoding", "errors", "families", "splits"},
    "generation": {"resting"},
    "scores": {"generation", "measures", "questions"},
    "behaviour": {"generation", "questions", "report", "scores"},
    "callbacks.samples": {"behaviour", "generation", "processes", "questions", "recipe", "scores"},
    "job": {
        "behaviour", "callbacks.samples", "canaries", "changes", "corpus", "curation", "encoding", "errors", "examination", "families", "finished", "fitting", "handover", "html_report",
        "interrupts", "lessons", "mining", "model", "onward", "precision", "preflight", "probe", "processes", "reading", "recipe",
        "report", "repository", "sitting", "splits", "training", "watching",
    },
    "continuations": set(),
    "practice": {
        "answers", "continuations", "exam", "generation", "resting", "scores", "significance", "tasks.dead_api",
        "tasks.imports", "tasks.problems", "tasks.scores", "tasks.which_file",
    },
    "tasks.problems": {"behaviour_keys", "corpus", "curation", "encoding", "families", "mining", "model", "questions", "recipe", "repository", "splits", "tasks.derive", "tasks.item"},
    "resting": set(),
}  # fmt: skip
DATA_HALF = (
    "recipe",
    "repository",
    "commits",
    "hygiene",
    "views",
    "splits",
    "store",
    "mining",
    "corpus",
    "lessons",
    "request",
    "followups",
    "under_review",
    "past",
    "tasks.derive",
    "tasks.scores",
    "run_dir",
    "topup",
)
PACKAGE = ROOT / "blocklm"


def room_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


ROOMS = {room_of(path): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}


def imports_of(path: Path) -> set[str]:
    """Rooms that a module imports anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("blocklm"):
            inside = node.module.removeprefix("blocklm").lstrip(".")
            found |= {inside} if inside else {alias.name for alias in node.names}
    return found


def test_every_room_is_on_the_map() -> None:
    assert set(ROOMS) == set(EDGES)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert imports_of(ROOMS[room]) == EDGES[room]


def test_edges_make_no_circle() -> None:
    left = dict(EDGES)
    while left:
        free = {room for room, needs in left.items() if not needs & set(left)}
        assert free, f"circle among {sorted(left)}"
        left = {room: needs for room, needs in left.items() if room not in free}


@pytest.mark.parametrize(
    ("rooms", "unwanted"),
    [(DATA_HALF, "torch"), (("training", "exam", "probe", "reading", "lengths", "report"), "pydriller")],
)
def test_each_half_stays_without_the_library_of_the_other(rooms: tuple[str, ...], unwanted: str) -> None:
    code = f"import sys, {', '.join(f'blocklm.{room}' for room in rooms)}; sys.exit({unwanted!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_holds_one_concept(room: str) -> None:
    assert len(ROOMS[room].read_text().splitlines()) <= 250
