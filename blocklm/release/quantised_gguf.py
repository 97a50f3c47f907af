"""Quantises a run's GGUF file with llama.cpp's program, and measures what the smaller files cost in bits per byte."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocklm.errors import UserError
from blocklm.evaluation.exam.items import ExamItem
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.files import replace_file
from blocklm.formatting import plural, signed
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import max_positions
from blocklm.release.gguf import MODELFILE, read_gguf
from blocklm.release.llama_cpp import QUANTISER, quantise, quantiser
from blocklm.runs.completed import CompletedRun

KINDS = ("Q8_0", "Q4_K_M")  # nearly as exact as 16 bit, and the usual one for little memory
QUESTIONS = 16  # of the validation split; a model of 3B parameters answers them in minutes on a CPU


@dataclass(frozen=True)
class Cost:
    """A GGUF file with the bits that its model needs for each byte of the questions.

    Attributes:
        file: the file.
        bytes: its size.
        bits_per_byte: those bits; None where they could not be measured.
    """

    file: Path
    bytes: int
    bits_per_byte: float | None


def quantise_all(run: CompletedRun, llama_cpp: Path, model: Path) -> Iterator[str]:
    """Quantise a run's GGUF file to each of `KINDS`, beside it, and yield lines that say what each file costs.

    Each quantisation and each measurement can take minutes: a line before each quantisation says that it begins, and a
    file's line comes as soon as the file is measured. Ollama's Modelfile then names the file of 8 bit, half as large
    and nearly as exact.

    Args:
        run: the run of the file.
        llama_cpp: a checkout of llama.cpp.
        model: the file, in 16 bit.

    Raises:
        UserError: llama.cpp's program fails.
    """
    program = quantiser(llama_cpp)
    if program is None:
        build = f"cmake -B build && cmake --build build --target {QUANTISER}"
        yield f"16 bit only: there is no {QUANTISER} in `{llama_cpp}` (there: `{build}`) or on the path"
        return
    name = model.name.partition("-")[0]
    files = [model.with_name(f"{name}-{kind.lower()}.gguf") for kind in KINDS]
    for number, (kind, file) in enumerate(zip(KINDS, files, strict=True), 1):
        yield f"quantising to {kind}, {number} of {len(KINDS)}"
        quantise(program, model, kind, file)
    recipe = model.with_name(MODELFILE)
    smaller = recipe.read_text(encoding="utf-8").replace(f"FROM ./{model.name}\n", f"FROM ./{files[0].name}\n")
    replace_file(recipe, smaller)
    try:
        questions = validation_questions(run)
    except UserError as error:
        yield f"what quantised files cost is not measured: {error}"
        questions = []
    yield from describe(costs(run, [model, *files], questions), len(questions))


def validation_questions(run: CompletedRun) -> list[ExamItem]:
    """Return up to `QUESTIONS` questions of a run's validation split.

    Raises:
        UserError: the repository cannot be read.
    """
    positions = max_positions(run.source.architecture())
    planned = run.manifest["plan"]["max_length"]
    length = min(planned, positions or planned)
    setup = ExamSetup(run.recipe, run.repositories, run.corpus(), run.tokenizer, run.source, length, positions)
    return setup.questions("validation", QUESTIONS)


def costs(run: CompletedRun, files: Sequence[Path], items: Sequence[ExamItem]) -> Iterator[Cost]:
    """Yield what each file costs, as transformers reads it, at the run's precision.

    Args:
        run: the run of the files.
        files: GGUF files of its model.
        items: questions; none to measure sizes alone.
    """
    for file in files:
        yield Cost(file, file.stat().st_size, _bits_per_byte(run, file, items) if items else None)


def _bits_per_byte(run: CompletedRun, file: Path, items: Sequence[ExamItem]) -> float | None:
    try:
        loaded = LoadedModel(read_gguf(file), run.tokenizer, run.source.precision.dtype)
    except UserError:
        return None
    bits = bits_of_rows(loaded, [item.encoded for item in items], file.name)
    return sum(bits) / sum(item.added_bytes for item in items)


def describe(found: Iterable[Cost], questions: int) -> Iterator[str]:
    """Yield a line for each file: its size, its bits per byte, and how many more they are than the first file's."""
    first = None
    for cost in found:
        first = first or cost
        line = f"{cost.file}: {cost.bytes / 1e6:.1f} MB"
        if cost.bits_per_byte is not None and first.bits_per_byte is not None:
            change = 100 * (cost.bits_per_byte / first.bits_per_byte - 1)
            line += (
                f", {cost.bits_per_byte:.4f} bits per byte on {plural(questions, 'question')} of the validation split"
            )
            line += "" if cost is first else f", {signed(change)}"
        yield line
