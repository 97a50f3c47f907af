"""Sets up an exam from a recipe and its corpus: the questions, the arms and the context of each arm."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.prompt_templates import FAMILY
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.compare import Arm, OpenModel, bits_of_arm, run_exam
from blocklm.evaluation.exam.contexts import Contexts, example_contexts, piece_contexts
from blocklm.evaluation.exam.forgetting import MAX_TOKENS, general_items, measure_forgetting
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.evaluation.tasks.problems import problems_of
from blocklm.evaluation.tasks.run import run_tasks
from blocklm.git.repository import Repository
from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import special_tokens
from blocklm.models.source import ModelSource
from blocklm.retrieval.parent_files import Embed, RetrievalQuery, nearest_before
from blocklm.runs.fingerprint import weights_of

SEED = 0  # for choosing the questions, so that every run on the same commits has the same
PIECES = 5
ANSWERS = "exam-answers.jsonl"


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
        samples = self._exam_samples(split)
        chosen = spread_over_commits(samples["commit"][:], limit, self.recipe.exam.exam_items_per_commit, SEED)
        items = exam_items(samples.select(chosen)[:], self.tokenizer, self.max_length)
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
        items = self.questions("test", self.recipe.exam.exam_items)
        run_dir = self.recipe.output_dir
        weights = {"base": self.base_name, "tuned": weights_of(run_dir)}
        opens = {"base": base, "tuned": tuned}
        named = [name.partition("+")[::2] for name in self.recipe.exam.exam_arms]
        contexts = {given: self._contexts(given, items) for given in sorted({given for _, given in named})}
        arms = [
            Arm(f"{model}+{given}" if given else model, weights[model], opens[model], contexts[given])
            for model, given in sorted(named, reverse=True)  # tuned first, because opening the base may replace it
        ]
        arms += others
        general = general_items(self.tokenizer, self.positions)
        with Answers(run_dir / ANSWERS) as answers:
            result = run_exam(items, arms, answers)
            plain = [arm for arm in arms if arm.name in ("tuned", "base")]
            bits = {arm.name: bits_of_arm(arm, general, answers) for arm in plain}
            problems = problems_of(self.recipe, self.repositories, self.corpus, self.tokenizer, self._task_length)
            tasks, rows = run_tasks(problems, plain, answers)
        return result | {"forgetting": measure_forgetting(general, bits), "tasks": tasks, "per_problem": rows}

    def loaded(self, model: PreTrainedModel) -> LoadedModel:
        """Join a model with the tokenizer and precision of this exam."""
        return LoadedModel(model, self.tokenizer, self.source.precision.dtype)

    def _exam_samples(self, split: str) -> Dataset:
        samples = self.corpus.splits[split]
        return samples.select([row for row, view in enumerate(samples["view"][:]) if view == self.recipe.exam_view])

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

    def _context_budget(self, item: ExamItem) -> int:
        limit = self.recipe.exam.exam_context_tokens
        return max(0, min(limit, (self.positions or limit + item.tokens) - item.tokens))

    def _contexts(self, given: str, items: list[ExamItem]) -> Contexts:
        if given == "examples":
            return example_contexts(items, self._exam_samples("validation")[:], self.tokenizer, self._context_budget)
        if given == "bm25":
            return self._pieces(items)
        if given == "hybrid":
            from blocklm.retrieval.embedder import Embedder  # takes seconds to import

            return self._pieces(items, Embedder(self.recipe.retrieval.embedding_model).embed)
        return {}

    def _pieces(self, items: list[ExamItem], embed: Embed | None = None) -> Contexts:
        suffixes = frozenset(PurePosixPath(item.path).suffix for item in items)
        queries = [RetrievalQuery(item.commit, item.text) for item in items]
        found = nearest_before(self.repositories, queries, suffixes, PIECES, embed)
        family = FAMILY[self.corpus.report["prompts"][self.recipe.exam_view]]
        breaking = special_tokens(self.tokenizer) - set(PLACEHOLDERS)
        return piece_contexts(items, found, family, breaking, self.tokenizer, self._context_budget)
