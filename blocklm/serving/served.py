"""Loads the runs that are served: each base once, with the adapters of all runs that were trained on it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from trl import ModelConfig

from blocklm.errors import UserError
from blocklm.formatting import plural, size
from blocklm.models.loaded import LoadedModel
from blocklm.models.precision import spare_conversions
from blocklm.models.pretrained import max_positions, resolve_name
from blocklm.runs.completed import CompletedRun
from blocklm.runs.report.editor import FEEDBACK
from blocklm.serving.engines.growing import Listener
from blocklm.serving.engines.local import LocalEngine
from blocklm.serving.engines.prompt_cache import MAX_KEPT, key_value_bytes
from blocklm.serving.engines.remote import RemoteEngine
from blocklm.serving.feedback import Feedback
from blocklm.serving.names import model_names
from blocklm.serving.own_context import OwnContext
from blocklm.serving.prompts import RunPrompts
from blocklm.serving.protocols.sampling import MAX_TOKENS
from blocklm.serving.question import Answer, Gap, Question
from blocklm.serving.refused import Refused

# How the adapter is built belongs to each run; the rest of these keys decides what the base is.
OF_ADAPTER = ("use_peft", "lora_", "use_rslora", "use_dora")
UNKNOWN_POSITIONS = 1 << 20
PIECES = 2  # of 20 lines

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Switches:
    """What of a run's repository is used.

    Attributes:
        paths: whether the open file is recognised by its lines.
        pieces: maximum number of pieces of other files before a prompt.
    """

    paths: bool = True
    pieces: int = PIECES


@dataclass(frozen=True)
class ServedRun:
    """A run that answers requests.

    Attributes:
        name: name of the model.
        adapter: name of its adapter in the engine's model.
        prompts: words requests to it.
        engine: continues prompts; runs with the same base share it.
        min_probability: at a gap, nothing is said where the model finds its first line less likely.
        feedback: follows what became of the texts at gaps; None to record nothing.
    """

    name: str
    adapter: str
    prompts: RunPrompts
    engine: LocalEngine | RemoteEngine
    min_probability: float = 0.0
    feedback: Feedback | None = None

    def answer(self, question: Question, listener: Listener) -> Answer:
        """Answer a request; blocks until the answer is complete.

        Raises:
            Refused: the run cannot answer this.
            Cancelled: nobody waits any more.
        """
        worded = self.prompts.word(question)
        gap = question.asked if isinstance(question.asked, Gap) else None
        if gap is not None and self.feedback is not None:
            self.feedback.read(gap.before)
        limits = replace(worded.limits, min_probability=0.0 if gap is None else self.min_probability)
        answer = self.engine.answer(worded.ids, limits, self.adapter, listener)
        if gap is not None and self.feedback is not None:
            self.feedback.show(gap.before, answer)
        return replace(answer, truncated=worded.truncated)


@dataclass(frozen=True)
class Served:
    """The runs that are served; the first answers requests that name none."""

    runs: Sequence[ServedRun]

    def silent_below(self, probabilities: Sequence[float]) -> "Served":
        """Return the same runs, each with the least probability of a first line that is shown."""
        pairs = zip(self.runs, probabilities, strict=True)
        return Served([replace(run, min_probability=probability) for run, probability in pairs])

    def with_feedback(self) -> "Served":
        """Return the same runs, each of which records into its directory what became of its texts."""
        return Served([replace(run, feedback=Feedback(run.prompts.run.path / FEEDBACK)) for run in self.runs])

    def close(self) -> None:
        """Record what is left to record."""
        for run in self.runs:
            if run.feedback is not None:
                run.feedback.close()

    def find(self, model: str) -> ServedRun:
        """Find a run by the name of its model, or of its folder.

        Raises:
            Refused: there is no such model.
        """
        for run in self.runs:
            if model in ("", run.name, run.prompts.run.path.name):
                return run
        names = ", ".join(f"`{run.name}`" for run in self.runs)
        raise Refused(404, f"there is no model `{model[:100]}`; there are {names}")


def load(runs: Sequence[CompletedRun], switches: Switches) -> Served:
    """Load runs, with the bases quantised as in training.

    Raises:
        UserError: a model cannot be loaded.
    """
    names = model_names([(run.path, run.manifest) for run in runs])
    served: dict[str, ServedRun] = {}
    for group in _groups(list(zip(names, runs, strict=True))):
        loaded, adapters = _load_group([run for _, run in group])
        engine, positions = LocalEngine(loaded), max_positions(loaded.model.config) or UNKNOWN_POSITIONS
        prompts = [RunPrompts(run, positions, _context(run, switches)) for _, run in group]
        longest = max(prompt.max_length for prompt in prompts) + MAX_TOKENS
        kept = MAX_KEPT * min(longest, positions) * key_value_bytes(loaded.model.config, loaded.dtype.itemsize)
        logger.info(
            "%s with %s: %s of weights, and at most %s for the keys and values of prompts",
            group[0][1].source.name,
            plural(len(group), "run"),
            size(engine.bytes),
            size(kept),
        )
        for (name, _), adapter, own in zip(group, adapters, prompts, strict=True):
            served[name] = ServedRun(name, adapter, own, engine)
    return Served([served[name] for name in names])


def serve_from(run: CompletedRun, url: str, switches: Switches) -> Served:
    """Serve a run whose model another server has.

    Args:
        run: the run.
        url: address of a server of llama.cpp or one that speaks OpenAI's protocol.
        switches: what of the run's repository is used.

    Raises:
        UserError: the server does not answer.
    """
    engine = RemoteEngine(url, run.tokenizer)
    (name,) = model_names([(run.path, run.manifest)])
    return Served([ServedRun(name, "", prompts_of(run, switches), engine)])


def prompts_of(run: CompletedRun, switches: Switches) -> RunPrompts:
    """Return what words requests to a run, without loading its model."""
    positions = max_positions(run.source.architecture()) or UNKNOWN_POSITIONS
    return RunPrompts(run, positions, _context(run, switches))


def _groups(runs: Sequence[tuple[str, CompletedRun]]) -> Iterator[list[tuple[str, CompletedRun]]]:
    """Yield the runs of each base; a fully tuned model is a base of its own."""
    groups: dict[str, list[tuple[str, CompletedRun]]] = {}
    for name, run in runs:
        key = repr((_base_keys(run.source.config), run.source.precision)) if run.adapted else f"{run.path}"
        groups.setdefault(key, []).append((name, run))
    yield from groups.values()


def _base_keys(config: ModelConfig) -> dict[str, Any]:
    """Select the keys that decide what the base is."""
    keys = {field.name: getattr(config, field.name) for field in fields(config)}
    name = Path(resolve_name(str(config.model_name_or_path)))
    place = str(name.resolve()) if name.is_dir() else str(config.model_name_or_path)
    return {key: value for key, value in keys.items() if not key.startswith(OF_ADAPTER)} | {
        "model_name_or_path": place
    }


def _load_group(runs: Sequence[CompletedRun]) -> tuple[LoadedModel, list[str]]:
    """Load the base of some runs with all their adapters; return it with the adapters' names."""
    loaded = runs[0].tuned()
    adapters = [getattr(loaded.model, "active_adapter", "")]
    model: Any = loaded.model
    for number, run in enumerate(runs[1:], 1):
        model.load_adapter(str(run.path), adapter_name=f"run-{number}")
        adapters.append(f"run-{number}")
    if isinstance(model, PeftModel):
        spare_conversions(model.requires_grad_(False), loaded.dtype)
        _spare_adapters(model, loaded.dtype)
    model.eval()
    return loaded, adapters


def _spare_adapters(model: PeftModel, dtype: torch.dtype) -> None:
    """Store the matrices of adapters in the dtype of the products, to which autocast rounds them at every call."""
    for name, module in model.named_modules():
        if ".lora_" in name and isinstance(module, torch.nn.Linear):
            module.to(dtype)


def _context(run: CompletedRun, switches: Switches) -> OwnContext | None:
    """Read what is known of a run's repositories; None, with a warning, if they cannot be read."""
    context = OwnContext(run, switches.paths, switches.pieces)
    try:
        context.prepare()
    except UserError as error:
        logger.warning("%s: no context of the repository: %s (%s)", run.path, error, error.hint)
        return None
    return context
