"""What an exam asks, who answers and what each arm is given, from a recipe and its corpus."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.prompt_templates import FAMILY
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers
from blocklm.evaluation.exam.compare import Arm, bits_of_arm, run_exam
from blocklm.evaluation.exam.contexts import Contexts, example_contexts, piece_contexts
from blocklm.evaluation.exam.forgetting import MOST_TOKENS, general_items, measure_forgetting
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.evaluation.tasks.problems import problems_of
from blocklm.evaluation.tasks.run import run_tasks
from blocklm.git.repository import Repository
from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.loading import special_tokens
from blocklm.models.source import ModelSource
from blocklm.retrieval.parent_files import Embed, RetrievalQuery, nearest_before
from blocklm.runs.fingerprint import weights_of

SEED = 0  # of the choice of questions: the same for every run on the same commits
PIECES = 5
ANSWERS = "exam-answers.jsonl"

Opens = Callable[[], AbstractContextManager[PreTrainedModel]]


@dataclass(frozen=True)
class ExamSetup:
    """Everything the exam needs: held-out samples, repositories, and how the model is run.

    Attributes:
        recipe: the run.
        repositories: for what stood in a file before a commit.
        corpus: with the held-out samples.
        tokenizer: the tokenizer of all arms.
        source: the base model.
        max_length: tokens that a question may have with its answer.
        positions: tokens that the model can read; None where its configuration does not say.
    """

    recipe: Recipe
    repositories: Sequence[Repository]
    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    max_length: int
    positions: int | None

    def questions(self, split: str, limit: int) -> list[ExamItem]:
        """At most `limit` questions of a split, spread over its commits.

        Raises:
            UserError: none fits into `max_length`.
        """
        asked = self._asked(split)
        heard = spread_over_commits(asked["commit"][:], limit, self.recipe.exam.exam_items_per_commit, SEED)
        items = exam_items(asked.select(heard)[:], self.tokenizer, self.max_length)
        if not items:
            raise UserError(
                f"no {split} sample fits into `max_length` {self.max_length}", "raise `max_length` in the recipe"
            )
        return items

    def run(self, tuned: Opens, base: Opens, others: Sequence[Arm] = ()) -> dict[str, Any]:
        """Let all arms of the recipe answer, and compare them; what was answered before in this run directory stays.

        Args:
            tuned: opens the tuned model.
            base: opens the model as it was before training.
            others: further models of this tokenizer.
        """
        items = self.questions("test", self.recipe.exam.exam_items)
        run_dir = self.recipe.output_dir
        weights = {"base": self.base_name, "tuned": weights_of(run_dir)}
        opens = {"base": base, "tuned": tuned}
        named = [name.partition("+")[::2] for name in self.recipe.exam.exam_arms]
        contexts = {given: self._contexts(given, items) for given in sorted({given for _, given in named})}
        arms = [
            Arm(f"{who}+{given}" if given else who, weights[who], opens[who], contexts[given])
            for who, given in sorted(named, reverse=True)  # the tuned first, because opening the base may replace it
        ]
        arms += others
        general = general_items(self.tokenizer, self.positions)
        with Answers(run_dir / ANSWERS) as answers:
            result = run_exam(items, arms, self.pad_token_id, self.dtype, answers)
            plain = [arm for arm in arms if arm.name in ("tuned", "base")]
            bits = {arm.name: bits_of_arm(arm, general, self.pad_token_id, self.dtype, answers) for arm in plain}
            problems = problems_of(self.recipe, self.repositories, self.corpus, self.tokenizer, self._reach)
            tasks, rows = run_tasks(problems, plain, self.tokenizer, self.dtype, answers)
        return result | {"forgetting": measure_forgetting(general, bits), "tasks": tasks, "per_problem": rows}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix products."""
        return self.source.precision.dtype

    @property
    def pad_token_id(self) -> int:
        """The pad token's id; set when the tokenizer was loaded."""
        found: int | None = self.tokenizer.pad_token_id
        assert found is not None, "it was set when the tokenizer was loaded"
        return found

    def _asked(self, split: str) -> Dataset:
        samples = self.corpus.splits[split]
        return samples.select([at for at, view in enumerate(samples["view"][:]) if view == self.recipe.exam_view])

    @property
    def base_name(self) -> str:
        """A name for the weights of the base, as these keys load them."""
        config = self.source.config
        keys = (config.model_name_or_path, config.model_revision, config.load_in_4bit, config.load_in_8bit)
        return f"{keys} {self.dtype}"

    @property
    def _reach(self) -> int:
        """Tokens of a problem and its answer: as in training, and more where training was short and the model reads on."""
        return max(self.max_length, min(MOST_TOKENS, self.positions or 0))

    def _room(self, item: ExamItem) -> int:
        most = self.recipe.exam.exam_context_tokens
        return max(0, min(most, (self.positions or most + item.tokens) - item.tokens))

    def _contexts(self, given: str, items: list[ExamItem]) -> Contexts:
        if given == "examples":
            return example_contexts(items, self._asked("validation")[:], self.tokenizer, self._room)
        if given == "bm25":
            return self._pieces(items)
        if given == "hybrid":
            from blocklm.retrieval.embedder import Embedder  # seconds of imports, for those who ask for it

            return self._pieces(items, Embedder(self.recipe.retrieval.embedding_model).embed)
        return {}

    def _pieces(self, items: list[ExamItem], embed: Embed | None = None) -> Contexts:
        suffixes = frozenset(PurePosixPath(item.path).suffix for item in items)
        asked = [RetrievalQuery(item.commit, item.text) for item in items]
        found = nearest_before(self.repositories, asked, suffixes, PIECES, embed)
        family = FAMILY[self.corpus.report["prompts"][self.recipe.exam_view]]
        breaking = special_tokens(self.tokenizer) - set(PLACEHOLDERS)
        return piece_contexts(items, found, family, breaking, self.tokenizer, self._room)
