"""The main job, phase by phase: mine, curate, render, train, exam, save."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.curation import Curated, curate
from blocklm.corpus.new_samples import TopUp, teaching_commits, top_up
from blocklm.corpus.prompt_templates import FAMILY, prompts_for
from blocklm.corpus.rendering import asked_hunks
from blocklm.evaluation.exam.phase import examine
from blocklm.evaluation.exam.setup import Sitting
from blocklm.evaluation.generation_eval import history, read_rows
from blocklm.evaluation.template_probe import HUNKS, Scores, best_prompts, is_asked, load_or_probe, probe
from blocklm.git.repository import Repository
from blocklm.interrupts import Interrupts
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.adapter import previous_arm, put_adapter
from blocklm.models.distributed import is_sharded, join
from blocklm.models.loading import load_base, load_tokenizer, load_tuned, model_config, positions, special_tokens
from blocklm.models.precision import choose_precision
from blocklm.release.handover import hand_over
from blocklm.runs.completed import Finished
from blocklm.runs.continuation import previous_run, write_learned
from blocklm.runs.manifest import Manifest, read_manifest
from blocklm.runs.report.html import reported
from blocklm.runs.summary import summarise
from blocklm.training.callbacks.generation_samples import add_samples
from blocklm.training.data import TrainingData, training_data
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
        data = job.prepare()
        with job.manifest.phase("train"):
            model = job.train(data)
        job.processes.wait_for_everyone()
        if not job.processes.is_main_process:
            return None
        if recipe.exam.exam:
            with job.manifest.phase("exam"):
                job.examine(model, data)
        with job.manifest.phase("save"):
            job.save(model, data.tokenizer)
        job.manifest.finish("complete")
    return summarise(recipe.output_dir, job.manifest.content)


@dataclass(frozen=True)
class _Data:
    """What is trained on and asked.

    Attributes:
        tokenizer: the model's.
        corpus: the samples; in a top-up without those of the later splits that the previous run learned.
        learned: the commits that the result may have learned, those of the previous runs included.
        topup: what is new since the previous run; None in a run that begins anew.
    """

    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    learned: frozenset[str]
    topup: TopUp | None


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
        named = recipe.run.continue_from
        self.previous = None if named is None else previous_run(named, self.model_config)
        self.earlier = read_manifest(recipe.output_dir)
        self.processes.wait_for_everyone()  # all must have read it before the main process begins a new one
        self.manifest = Manifest(
            recipe.output_dir / "manifest.json",
            recipe.resolved(),
            writes=self.processes.is_main_process,
            kept={key: (self.earlier or {}).get(key) for key in ("plan", "training", "hardware")},
        )
        self.fitting = Fitting(recipe, self.model_config, self.args, self.precision, self.manifest)

    def prepare(self) -> _Data:
        """Build the corpus on the main process; the others wait and then read it."""
        with self.manifest.phase("mine"):
            tokenizer = load_tokenizer(self.model_config, self.trust_remote_code)
            with self.processes.main_process_first():
                changes = mine(self.repositories, self.recipe.mining)
        special = special_tokens(tokenizer)
        with self.manifest.phase("curate"), self.processes.main_process_first():
            curated = curate(changes, self.recipe.mining)
        with self.manifest.phase("render"), self.processes.main_process_first():
            scores = {} if self.previous is not None else self.probe(tokenizer, changes, curated, special)
            prompts = best_prompts(prompts_for(special, self.recipe.sampling.template), scores, self.recipe.exam_view)
            if self.previous is not None:
                learned = self.previous.manifest["corpus"]["prompts"]
                prompts = {view: FAMILY[learned.get(view, family.name)] for view, family in prompts.items()}
            corpus = build_corpus(self.recipe, self.repositories, changes, prompts, special)
            commits, topup = teaching_commits(changes.dataset, curated.verdicts), None
            if self.previous is not None:
                commits |= self.previous.learned
                topup = top_up(self.previous.history, changes.dataset, corpus.splits, self.recipe)
                corpus = replace(corpus, splits=topup.splits)
        corpus.report["probe"] = scores
        self.manifest.update(repository=changes.report["repository"], corpus=corpus.report | {"cache": corpus.cache})
        return _Data(tokenizer, corpus, commits, topup)

    def probe(
        self, tokenizer: PreTrainedTokenizerBase, changes: Changes, curated: Curated, special: frozenset[str]
    ) -> Scores:
        """Bits per byte of the base model by view and family, where the recipe or its size asks for them."""
        views, whole = self.recipe.views, curated.verdicts["split"][:].count("train")
        if not is_asked(self.recipe.sampling.template, special, views, self.samples_read(whole)):
            return {}
        corpus = curated.report["key"]
        question = {"corpus": corpus, "model": self.recipe.model, "tokens": sorted(special), "views": views}
        hunks = asked_hunks(changes.dataset, curated.verdicts, HUNKS)
        length, dtype = self.args.max_length, self.precision.dtype
        return load_or_probe(
            self.recipe.output_dir / "probe.json",
            question,
            lambda: probe(self.load_base(), tokenizer, hunks, special, views, length, dtype),
        )

    def samples_read(self, whole: int) -> int:
        """About how many samples the run reads, of a training split of `whole`."""
        if self.args.max_steps > 0:
            per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            return int(self.args.max_steps * per_step * self.processes.num_processes)
        return int(self.args.num_train_epochs * (self.recipe.run.max_train_samples or whole))

    def train(self, data: _Data) -> PreTrainedModel:
        """Encode what is trained on, then train or resume; a run that ended in its exam has nothing left to train."""
        if self.earlier and self.earlier["training"]:
            self.manifest.update(corpus=self.earlier["corpus"], training=self.earlier["training"])
            return self.load_tuned()
        while (trainer := self.fitting_trainer(data)) is None:
            free()
        with watched(trainer, self.manifest):
            continued = None if data.topup is None else data.topup.report
            report = train(trainer, self.interrupts)
            self.manifest.update(training=report | {"continued_from": continued, "rolled_back": False})
        if not is_sharded():
            return trainer.accelerator.unwrap_model(trainer.model)
        # In the exam the main process is alone and cannot ask the others' shards: it loads what was saved.
        del trainer
        free()
        self.processes.wait_for_everyone()
        return self.load_tuned()

    def fitting_trainer(self, data: _Data) -> SFTTrainer | None:
        """A trainer whose largest steps have been run, None if they did not fit and the samples must be shorter."""
        continues, adapts = self.previous is not None, self.model_config.use_peft
        # A whole model goes on as the previous run left it; an adapter is put on the base that the trainer has made ready.
        base = self.load_previous() if continues and not adapts else self.load_base()
        self.fitting.pack(base)
        with self.processes.main_process_first():
            read = self.read(data)
        if self.processes.is_main_process:
            write_learned(self.recipe.output_dir, data.learned)  # before the first of them is
        tokenizer, rows, stops = data.tokenizer, read.validation.dataset, self.interrupts
        trainer = build_trainer(self.recipe, self.args, base, tokenizer, read.reading, rows, stops, self.precision)
        if self.previous is not None and adapts:
            put_adapter(trainer.model, self.previous.path)
        asked, prompts = data.corpus.splits["validation"], data.corpus.report["prompts"]
        add_samples(trainer, asked, prompts, data.tokenizer, self.recipe, self.precision.dtype)
        return trainer if self.fitting.holds(trainer) else None

    def read(self, data: _Data) -> TrainingData:
        """Encode what is trained on and what guides it, and put both into the manifest."""
        new, processes = None if data.topup is None else data.topup.new, self.processes.num_processes
        found = training_data(data.corpus, data.tokenizer, self.recipe, self.args, processes, new)
        utilisation = found.reading.report["utilisation"]
        if utilisation is not None and self.fitting.unpack(utilisation):
            found = training_data(data.corpus, data.tokenizer, self.recipe, self.args, processes, new)
        order = found.reading.order
        self.fitting.reads(len(order) / found.reading.epoch_size, len(order), processes)
        self.manifest.update(corpus=found.report | {"cache": data.corpus.cache})
        return found

    def examine(self, model: PreTrainedModel, data: _Data) -> None:
        """Sit the exam, unless it was decided before a kill that the previous result comes back."""
        training = self.manifest.content["training"]
        if self.earlier and training.get("rolled_back"):
            self.manifest.update(exam=self.earlier["exam"])
            return
        lengths, (corpus, tokenizer) = (self.args.max_length, positions(model.config)), (data.corpus, data.tokenizer)
        keys, dtype = self.model_config, self.precision.dtype
        sitting = Sitting(self.recipe, self.repositories, corpus, tokenizer, keys, dtype, *lengths)
        examine(self.manifest, sitting, model, self.load_base, self.previous_opener(model))

    def save(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Record what was written while it trained, and hand over the better result."""
        content = self.manifest.content
        training = content["training"]
        step = (self.args.load_best_model_at_end and training["best_step"]) or training["steps"]
        self.manifest.update(generation=history(read_rows(self.recipe.output_dir), step))
        run = Finished(self.recipe.output_dir, self.recipe, content, self.model_config, self.precision)
        hand_over(run, self.manifest, self.previous, model, tokenizer, self.load_base)

    def previous_opener(self, model: PreTrainedModel) -> Callable[[], AbstractContextManager[PreTrainedModel]] | None:
        """What opens the exam's arm of the previous run."""
        if self.previous is None:
            return None
        return partial(previous_arm, model, self.previous.path, self.load_previous)

    def load_previous(self) -> PreTrainedModel:
        """What the previous run saved."""
        assert self.previous is not None, "there is one"
        return load_tuned(self.model_config, self.precision, self.previous.path, self.trust_remote_code)

    def load_tuned(self) -> PreTrainedModel:
        """What the run saved."""
        return load_tuned(self.model_config, self.precision, self.recipe.output_dir, self.trust_remote_code)

    def load_base(self) -> PreTrainedModel:
        """The base model as the recipe quantises it."""
        return load_base(self.model_config, self.precision, self.trust_remote_code)
