"""Sets up an exam from a recipe and its corpus: the questions, the arms and the context of each arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.config.recipe import Recipe
from blocklm.config.sampling import PLACE_VIEWS
from blocklm.corpus.build import Corpus
from blocklm.corpus.places.place import FilePiece, Shown
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.compare import Arm, OpenModel, bits_of_arm, run_exam
from blocklm.evaluation.exam.forgetting import MAX_TOKENS, general_items, measure_forgetting
from blocklm.evaluation.exam.identifiers import compare_identifiers, names_in
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.evaluation.tasks.problems import problems_of
from blocklm.evaluation.tasks.run import run_tasks
from blocklm.git.repository import Repository
from blocklm.models.loaded import LoadedModel
from blocklm.models.source import ModelSource
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.retrieval.parent_files import Embed, RetrievalQuery, nearest_before
from blocklm.runs.fingerprint import weights_of

SEED = 0  # for choosing the questions, so that every run on the same commits has the same
PIECES = 5
ANSWERS = "exam-answers.jsonl"
# What an arm is shown around a place instead of the file and recent edits.
SHOWN = {"none": Shown(file=False, edits=False), "file": Shown(edits=False), "unnamed": Shown(path=False)}
Pieces = Mapping[str, Sequence[FilePiece]]


@dataclass(frozen=True)
class ExamSetup:
    """Everything the exam needs: held-out samples, repositories, and how the model is run.

    Attributes:
        recipe: the run's recipe.
        repositories: the mined repositories, from which files before a commit are read.
        corpus: the corpus, with the held-out samples.
        tokenizer: the tokenizer of all arms.
        source: the base model.
        max_length: maximum tokens of a question with its answer.
        positions: maximum tokens that the model can read; None if its configuration does not say.
    """

    recipe: Recipe
    repositories: Sequence[Repository]
    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    max_length: int
    positions: int | None

    def questions(self, split: str, limit: int) -> list[ExamItem]:
        """Choose at most `limit` questions of a split, spread over its commits.

        Raises:
            UserError: no sample fits into `max_length`.
        """
        items = self._items(self._exam_samples(split, limit))
        if not items:
            raise UserError(
                f"no {split} sample fits into `max_length` {self.max_length}", "raise `max_length` in the recipe"
            )
        return items

    def run(self, tuned: OpenModel, base: OpenModel, others: Sequence[Arm] = ()) -> dict[str, Any]:
        """Let all arms of the recipe answer, and compare them; answers stored in the run directory are reused.

        Args:
            tuned: function that opens the tuned model.
            base: function that opens the model as it was before training.
            others: further arms with the same tokenizer.
        """
        samples = self._exam_samples("test", self.recipe.exam.exam_items)
        items = self.questions("test", self.recipe.exam.exam_items)
        run_dir = self.recipe.output_dir
        weights = {"base": self.base_name, "tuned": weights_of(run_dir)}
        opens = {"base": base, "tuned": tuned}
        named = [name.partition("+")[::2] for name in self.recipe.exam.exam_arms]
        if not set(PLACE_VIEWS).intersection(self.recipe.exam_views):
            named = [(model, given) for model, given in named if not given]  # the others would be asked the same
        shown = {given: self._asked_with(given, samples, items) for given in sorted({given for _, given in named})}
        arms = [
            Arm(f"{model}+{given}" if given else model, weights[model], opens[model], shown[given])
            for model, given in sorted(named, reverse=True)  # tuned first, because opening the base may replace it
        ]
        arms += others
        general = general_items(self.tokenizer, self.positions)
        with Answers(run_dir / ANSWERS) as answers:
            result = run_exam(items, arms, answers) | self._identifiers(items, arms, shown, answers)
            plain = [arm for arm in arms if arm.name in ("tuned", "base")]
            bits = {arm.name: [sum(tokens) for tokens in bits_of_arm(arm, general, answers)] for arm in plain}
            problems = problems_of(self.recipe, self.repositories, self.corpus, self.encoder, self._task_length)
            tasks, rows = run_tasks(problems, plain, answers)
        return result | {"forgetting": measure_forgetting(general, bits), "tasks": tasks, "per_problem": rows}

    def loaded(self, model: PreTrainedModel) -> LoadedModel:
        """Join a model with the tokenizer and precision of this exam."""
        return LoadedModel(model, self.tokenizer, self.source.precision.dtype)

    def _exam_samples(self, split: str, limit: int) -> Dataset:
        """Choose at most `limit` samples of a split, as many of each view, spread over the commits."""
        samples, views = self.corpus.splits[split], self.recipe.exam_views
        chosen: list[int] = []
        for number, view in enumerate(views):
            rows = [row for row, name in enumerate(samples["view"][:]) if name == view]
            share = limit // len(views) + (number < limit % len(views))
            per_commit = max(1, self.recipe.exam.exam_items_per_commit // len(views))
            commits = samples.select(rows)["commit"][:]
            chosen += [rows[place] for place in spread_over_commits(commits, share, per_commit, SEED)]
        return samples.select(sorted(chosen))

    @property
    def encoder(self) -> SampleEncoder:
        """Encodes the corpus with the tokenizer of all arms."""
        return SampleEncoder(self.tokenizer, self.corpus.folder, self.corpus.places.fill, self.corpus.report["key"])

    def _items(self, samples: Dataset, shown: Shown | None = None, pieces: Pieces | None = None) -> list[ExamItem]:
        columns = self.corpus.places.fill(samples[:], self.max_length, shown, pieces)
        return exam_items(columns, self.tokenizer, self.max_length, self._retrieved_length if pieces else 0)

    @property
    def _retrieved_length(self) -> int:
        """Maximum tokens of retrieved pieces, which come on top of a question that is otherwise the same."""
        limit = self.recipe.exam.exam_context_tokens
        return limit if self.positions is None else max(0, min(limit, self.positions - self.max_length))

    @property
    def base_name(self) -> str:
        """A name of the base's weights as these keys load them."""
        config = self.source.config
        keys = (config.model_name_or_path, config.model_revision, config.load_in_4bit, config.load_in_8bit)
        return f"{keys} {self.source.precision.dtype}"

    @property
    def _task_length(self) -> int:
        """Maximum tokens of a problem and its answer: `max_length`, or up to 1,024 if the model can read that many."""
        return max(self.max_length, min(MAX_TOKENS, self.positions or 0))

    def _asked_with(self, given: str, samples: Dataset, items: list[ExamItem]) -> dict[str, ExamItem]:
        """Build the questions as an arm is asked them that shows something else than the questions themselves."""
        if not given:
            return {}
        if given in SHOWN:
            return {item.id: item for item in self._items(samples, SHOWN[given])}
        embed: Embed | None = None
        if given == "hybrid":
            from blocklm.retrieval.embedder import Embedder  # takes seconds to import

            embed = Embedder(self.recipe.retrieval.embedding_model).embed
        return {item.id: item for item in self._items(samples, pieces=self._pieces(items, embed))}

    def _identifiers(
        self, items: list[ExamItem], arms: Sequence[Arm], shown: Mapping[str, Mapping[str, ExamItem]], answers: Answers
    ) -> dict[str, Any]:
        """Compare base and tuned model on identifiers, with each retrieval that both were shown."""
        names = {arm.name for arm in arms}
        given = {name: of for name, of in shown.items() if name not in SHOWN and name and f"base+{name}" in names}
        given = {name: of for name, of in given.items() if f"tuned+{name}" in names}
        wanted = {"base", "tuned", *(f"{model}+{name}" for model in ("base", "tuned") for name in given)}
        bits = {arm.name: bits_of_arm(arm, items, answers) for arm in arms if arm.name in wanted}
        taught = names_in(self.corpus.splits["train"]["completion"])
        return {"identifiers": compare_identifiers(items, given, bits, taught, self.tokenizer.decode)}

    def _pieces(self, items: list[ExamItem], embed: Embed | None) -> Pieces:
        """Find the pieces of files at each commit's parent that are nearest to its questions, the nearest last."""
        suffixes = frozenset(PurePosixPath(item.path).suffix for item in items)
        queries = [
            RetrievalQuery(item.commit, item.text, self.tokenizer.decode(item.encoded.prompt_ids)) for item in items
        ]
        found = nearest_before(self.repositories, queries, suffixes, PIECES, embed)
        return {item.id: pieces[::-1] for item, pieces in zip(items, found, strict=True)}
