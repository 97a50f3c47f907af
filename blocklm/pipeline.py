"""The main job, phase by phase: mine, curate, render, train, exam, save."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.curation import Curated, curate
from blocklm.corpus.prompt_templates import prompts_for
from blocklm.corpus.rendering import asked_hunks
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.evaluation.exam.phase import examine
from blocklm.evaluation.exam.setup import Sitting
from blocklm.evaluation.generation_eval import history, read_rows
from blocklm.evaluation.template_probe import HUNKS, Scores, best_prompts, is_cheap, probe
from blocklm.git.repository import Repository
from blocklm.interrupts import Interrupts
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.distributed import is_sharded, join
from blocklm.models.loading import load_base, load_tokenizer, load_tuned, model_config, positions, special_tokens
from blocklm.models.precision import choose_precision
from blocklm.models.tokenization import EncodedSplit, encode_split
from blocklm.onward import Onward
from blocklm.release.handover import hand_over
from blocklm.runs.completed import Finished
from blocklm.runs.manifest import Manifest, read_manifest, summarise, write_json
from blocklm.runs.report.html import reported
from blocklm.training.callbacks.generation_samples import add_samples
from blocklm.training.canaries import plant
from blocklm.training.data_order import ReadingList, reading_list
from blocklm.training.monitoring.monitor import watched
from blocklm.training.planning.planner import Fitting
from blocklm.training.planning.preflight import free
from blocklm.training.train import build_trainer, sft_config, train


def run_job(recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> str | None:
    """Go through all phases; returns the summary on the main process, None on the others.

    Raises:
        UserError: the corpus, the model or the recipe cannot be worked with.
        Interrupted: a signal asked to stop; the checkpoint is saved and the manifest says so.
    """
    job = _Job(recipe, repositories, interrupts)
    with reported(recipe.output_dir, job.processes.is_main_process):
        with job.manifest.phase("plan"):
            job.fitting.plan(job.earlier)
        tokenizer, corpus = job.prepare()
        with job.manifest.phase("train"):
            model = job.train(tokenizer, corpus)
        job.processes.wait_for_everyone()
        if not job.processes.is_main_process:
            return None
        if recipe.exam.exam:
            with job.manifest.phase("exam"):
                job.examine(model, tokenizer, corpus)
        with job.manifest.phase("save"):
            job.save(model, tokenizer)
        job.manifest.finish("complete")
    return summarise(recipe.output_dir, job.manifest.content)


class _Job:
    """What the phases share; every process of a distributed run holds its own."""

    def __init__(self, recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> None:
        self.recipe = recipe
        self.repositories = repositories
        self.interrupts = interrupts
        self.processes = join(recipe.training)
        self.model_config = model_config(recipe.model)
        self.trust_remote_code = bool(recipe.training.get("trust_remote_code", False))
        self.precision = choose_precision(recipe.training.get("fp16"), recipe.training.get("bf16"))
        self.args = sft_config(recipe, self.precision)
        self.onward = Onward(recipe, self.model_config, self.precision, self.trust_remote_code)
        self.earlier = read_manifest(recipe.output_dir)
        self.processes.wait_for_everyone()  # all must have read it before the main process begins a new one
        self.manifest = Manifest(
            recipe.output_dir / "manifest.json",
            recipe.resolved(),
            writes=self.processes.is_main_process,
            kept={key: (self.earlier or {}).get(key) for key in ("plan", "training", "hardware")},
        )
        self.fitting = Fitting(recipe, self.model_config, self.args, self.precision, self.manifest)

    def prepare(self) -> tuple[PreTrainedTokenizerBase, Corpus]:
        """Build the corpus on the main process; the others wait and then read it."""
        with self.manifest.phase("mine"):
            tokenizer = load_tokenizer(self.model_config, self.trust_remote_code)
            with self.processes.main_process_first():
                changes = mine(self.repositories, self.recipe.mining)
        special = special_tokens(tokenizer)
        with self.manifest.phase("curate"), self.processes.main_process_first():
            curated = curate(changes, self.recipe.mining)
        with self.manifest.phase("render"), self.processes.main_process_first():
            scores = self.ask_base(tokenizer, changes, curated, special)
            prompts = best_prompts(prompts_for(special, self.recipe.sampling.template), scores, self.recipe.exam_view)
            prompts = self.onward.prompts(prompts)
            corpus = build_corpus(self.recipe, self.repositories, changes, prompts, special)
            corpus = self.onward.divide(changes, curated, corpus)
        corpus.report["probe"] = scores
        self.manifest.update(repository=changes.report["repository"], corpus=corpus.report | {"cache": corpus.cache})
        return tokenizer, corpus

    def ask_base(
        self, tokenizer: PreTrainedTokenizerBase, changes: Changes, curated: Curated, special: frozenset[str]
    ) -> Scores:
        """Bits per byte of the base model by view and family, where the recipe or its size asks for them.

        They are kept in the run directory, so that every process and a resumed run take the same prompts.
        """
        sampling, known = self.recipe.sampling, self.recipe.output_dir / "probe.json"
        views = self.recipe.views
        cheap = sampling.template == "auto" and is_cheap(special, views, self.samples_read(curated))
        if self.onward.previous is not None or (sampling.template != "probe" and not cheap):
            return {}
        asked = {
            "corpus": curated.report["key"],
            "model": self.recipe.model,
            "tokens": sorted(special),
            "views": views,
        }
        earlier = _read(known)
        if earlier.get("asked") == asked:
            return dict(earlier["scores"])
        hunks = asked_hunks(changes.dataset, curated.verdicts, HUNKS)
        scores = probe(self.load_base(), tokenizer, hunks, special, views, self.args.max_length, self.precision.dtype)
        write_json(known, {"asked": asked, "scores": scores})
        return scores

    def samples_read(self, curated: Curated) -> int:
        """About how many samples the run reads."""
        if self.args.max_steps > 0:
            per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            return int(self.args.max_steps * per_step * self.processes.num_processes)
        whole = curated.verdicts["split"][:].count("train")
        return int(self.args.num_train_epochs * (self.recipe.run.max_train_samples or whole))

    def train(self, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> PreTrainedModel:
        """Encode what is trained on, then train or resume; a run that ended in its exam has nothing left to train."""
        if self.earlier and self.earlier["training"]:
            self.manifest.update(corpus=self.earlier["corpus"], training=self.earlier["training"])
            return self.load_tuned()
        while (trainer := self.fitting_trainer(tokenizer, corpus)) is None:
            free()
        with watched(trainer, self.manifest):
            self.manifest.update(training=train(trainer, self.interrupts) | self.onward.report)
        if not is_sharded():
            return trainer.accelerator.unwrap_model(trainer.model)
        # In the exam the main process is alone and cannot ask the others' shards: it loads what was saved.
        del trainer
        free()
        self.processes.wait_for_everyone()
        return self.load_tuned()

    def fitting_trainer(self, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> SFTTrainer | None:
        """A trainer whose largest steps have been run, None if they did not fit and the samples must be shorter."""
        base = self.onward.start(self.load_base)
        self.fitting.pack(base)
        with self.processes.main_process_first():
            reading, validation = self.read(tokenizer, corpus)
        if self.processes.is_main_process:
            self.onward.write_learned()
        trainer = build_trainer(
            self.recipe, self.args, base, tokenizer, reading, validation.dataset, self.interrupts, self.precision
        )
        self.onward.take_up(trainer.model)
        asked, prompts = corpus.splits["validation"], corpus.report["prompts"]
        add_samples(trainer, asked, prompts, tokenizer, self.recipe, self.precision.dtype)
        return trainer if self.fitting.holds(trainer) else None

    def read(self, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> tuple[ReadingList, EncodedSplit]:
        """Encode what is trained on and what guides it, and put both into the manifest."""
        run, count = self.recipe.run, self.processes.num_processes
        samples, sampling, new = corpus.splits["train"], self.recipe.sampling, self.onward.new
        reading = reading_list(samples, tokenizer, sampling, run, self.args, corpus.folder, count, new)
        if reading.report["utilisation"] is not None and self.fitting.unpack(reading.report["utilisation"]):
            reading = reading_list(samples, tokenizer, sampling, run, self.args, corpus.folder, count, new)
        reading = plant(reading, tokenizer, self.args.seed, self.recipe.handover.canaries, self.args.max_length)
        asked = corpus.splits["validation"]
        asked = asked.select([at for at, view in enumerate(asked["view"][:]) if view == self.recipe.exam_view])
        heard = spread_over_commits(asked["commit"][:], run.max_validation_samples, len(asked), self.args.seed)
        validation = encode_split(asked.select(heard), tokenizer, self.args.max_length, corpus.folder)
        if not len(validation.dataset):
            raise UserError(
                f"no validation sample fits into `max_length` {self.args.max_length}",
                "raise `max_length` in the recipe",
            )
        self.fitting.reads(len(reading.order) / reading.epoch_size, len(reading.order), count)
        corpus.report["splits"]["train"] |= reading.report
        corpus.report["splits"]["validation"] |= {
            "used": len(validation.dataset),
            "tokens": validation.tokens,
            "too_long": validation.too_long,
        }
        corpus.report["truncated"] = reading.report["trimmed"] + validation.trimmed
        self.manifest.update(corpus=corpus.report | {"cache": corpus.cache})
        return reading, validation

    def examine(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> None:
        """Sit the exam, unless it was decided before a kill that the previous result comes back."""
        training = self.manifest.content["training"]
        if self.earlier and training.get("rolled_back"):
            self.manifest.update(exam=self.earlier["exam"])
            return
        length, reach = self.args.max_length, positions(model.config)
        sitting = Sitting(
            self.recipe, self.repositories, corpus, tokenizer, self.model_config, self.precision.dtype, length, reach
        )
        examine(self.manifest, sitting, model, self.load_base, self.onward.arm(model))

    def save(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Record what was written while it trained, and hand over the better result."""
        content = self.manifest.content
        training = content["training"]
        step = (self.args.load_best_model_at_end and training["best_step"]) or training["steps"]
        self.manifest.update(generation=history(read_rows(self.recipe.output_dir), step))
        run = Finished(self.recipe.output_dir, self.recipe, content, self.model_config, self.precision)
        hand_over(run, self.manifest, self.onward, model, tokenizer, self.load_base)

    def load_tuned(self) -> PreTrainedModel:
        """What the run saved."""
        return load_tuned(self.model_config, self.precision, self.recipe.output_dir, self.trust_remote_code)

    def load_base(self) -> PreTrainedModel:
        """The base model as the recipe quantises it."""
        return load_base(self.model_config, self.precision, self.trust_remote_code)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
