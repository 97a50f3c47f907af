"""The main job, phase by phase: plan, mine, curate, render, train, exam, save. Values flow from each to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.curation import Curated, curate
from blocklm.corpus.new_samples import TopUp, teaching_commits, top_up
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import FAMILY, ModelPrompts, prompts_for
from blocklm.corpus.rendering import held_out_hunks
from blocklm.evaluation.exam.adapter_scale import set_strength
from blocklm.evaluation.exam.phase import choose_strength_of, examine
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.evaluation.generation_eval import history, read_rows
from blocklm.evaluation.template_probe import HUNKS, Scores, TemplateProbe, best_prompts, is_asked
from blocklm.git.repository import Repository
from blocklm.interrupts import Interrupts
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.distributed import init_distributed, is_sharded
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import max_positions, special_tokens
from blocklm.models.source import ModelSource
from blocklm.release.handover import artifacts_of, hand_over
from blocklm.runs.completed import CompletedRun
from blocklm.runs.manifest import Manifest, read_manifest
from blocklm.runs.report.html import reporting
from blocklm.runs.summary import summarise
from blocklm.runs.top_up import Previous, previous_run, write_learned
from blocklm.training.monitoring.monitor import monitoring
from blocklm.training.phase import TrainingTask, fit_trainer
from blocklm.training.planning.planner import plan_run, samples_read
from blocklm.training.planning.preflight import release_memory
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.train import sft_config, train


@dataclass(frozen=True)
class Job:
    """The inputs of every phase; each process of a distributed run has its own.

    Attributes:
        recipe: the run's recipe.
        repositories: the repositories to train on.
        interrupts: requests to stop, from signals and from monitoring.
        processes: the processes that share the run.
        source: the base model.
        previous: the run that this one continues; None for a run that starts from the base model.
        earlier: the manifest of an earlier start in the same run directory; empty at the first.
        manifest: the record of what each phase did, which no phase reads.
    """

    recipe: Recipe
    repositories: list[Repository]
    interrupts: Interrupts
    processes: PartialState
    source: ModelSource
    previous: Previous | None
    earlier: Mapping[str, Any]
    manifest: Manifest

    @classmethod
    def begin(cls, recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> Self:
        """Join the processes, open the run that it continues, and create its manifest.

        Raises:
            UserError: the model's keys contradict each other, or `continue_from` names no run that fits.
        """
        processes = init_distributed(recipe.training)
        source = ModelSource.from_keys(recipe.model, recipe.training)
        named = recipe.run.continue_from
        previous = None if named is None else previous_run(named, source.config)
        earlier = read_manifest(recipe.output_dir) or {}
        processes.wait_for_everyone()  # before the main process replaces the manifest
        manifest = Manifest(
            recipe.output_dir / "manifest.json",
            recipe.resolved(),
            writes=processes.is_main_process,
            kept={key: earlier.get(key) for key in ("plan", "training", "hardware")},
        )
        return cls(recipe, repositories, interrupts, processes, source, previous, earlier, manifest)


@dataclass(frozen=True)
class Prepared:
    """The samples of training and exam.

    Attributes:
        tokenizer: the base model's tokenizer.
        corpus: the samples of all splits; in a top-up, validation and test lack what the previous run learned.
        learned: ids of the commits that this run and the previous ones may have learned.
        topup: the samples that are new since the previous run; None for a run that starts from the base model.
    """

    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    learned: frozenset[str]
    topup: TopUp | None


@dataclass(frozen=True)
class Trained:
    """The trained model, the maximum tokens of its rows, and the manifest's `training` entry."""

    model: PreTrainedModel
    max_length: int
    report: Mapping[str, Any]


def run_job(recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> str | None:
    """Run all phases; return the summary on the main process and None on the others.

    Raises:
        UserError: the recipe, the repositories or the model do not allow the run.
        Interrupted: a signal asked to stop; a checkpoint is saved, and the manifest records the interruption.
    """
    job = Job.begin(recipe, repositories, interrupts)
    manifest = job.manifest
    with reporting(recipe.output_dir, job.processes.is_main_process):
        with manifest.phase("plan"):
            plan = plan_run(recipe, job.source, sft_config(recipe, job.source.precision), job.earlier.get("plan"))
            manifest.update(plan=plan.entry())
        prepared = prepare(job, plan)
        with manifest.phase("train"):
            trained = train_or_load(job, plan, prepared)
        job.processes.wait_for_everyone()
        if not job.processes.is_main_process:
            return None
        if recipe.exam.exam:
            with manifest.phase("exam"):
                trained = run_exam_phase(job, prepared, trained)
        with manifest.phase("save"):
            save(job, prepared.tokenizer, trained)
        manifest.finish("complete")
    return summarise(recipe.output_dir, manifest.content)


def prepare(job: Job, plan: RunPlan) -> Prepared:
    """Build the corpus on the main process, while the others wait to read it from the cache."""
    recipe, manifest, previous = job.recipe, job.manifest, job.previous
    with manifest.phase("mine"):
        tokenizer = job.source.tokenizer()
        with job.processes.main_process_first():
            changes = mine(job.repositories, recipe.mining)
    with manifest.phase("curate"), job.processes.main_process_first():
        curated = curate(changes, recipe.mining)
    with manifest.phase("render"), job.processes.main_process_first():
        special = special_tokens(tokenizer)
        scores = {} if previous is not None else probe_templates(job, plan, tokenizer, changes, curated)
        prompts = best_prompts(prompts_for(special, recipe.sampling.template), scores, recipe.exam_views[0])
        if previous is not None:
            taught = previous.manifest["corpus"]["prompts"]
            prompts = {view: FAMILY[taught.get(view, family.name)] for view, family in prompts.items()}
        corpus = build_corpus(recipe, job.repositories, changes, ModelPrompts(prompts, special))
        learned, topup = teaching_commits(changes.dataset, curated.verdicts), None
        if previous is not None:
            learned |= previous.learned
            topup = top_up(previous.history, changes.dataset, corpus.splits, recipe)
            corpus = replace(corpus, splits=topup.splits)
    corpus = replace(corpus, report=corpus.report | {"probe": scores})
    manifest.update(repository=changes.report["repository"], corpus=corpus.report | {"cache": corpus.cache})
    return Prepared(tokenizer, corpus, learned, topup)


def probe_templates(
    job: Job, plan: RunPlan, tokenizer: PreTrainedTokenizerBase, changes: Changes, curated: Curated
) -> Scores:
    """Measure the base model's bits per byte by view and prompt family, if the recipe or the run's size asks for it."""
    recipe, args = job.recipe, sft_config(job.recipe, job.source.precision)
    samples = recipe.run.max_train_samples or curated.verdicts["split"][:].count("train")
    special = special_tokens(tokenizer)
    if not is_asked(recipe.sampling.template, special, recipe.views, samples_read(args, job.processes, samples)):
        return {}
    places = PlaceReader(changes.dataset, job.repositories, changes.known, ModelPrompts({}, special))
    probe = TemplateProbe(job.source, tokenizer, recipe.views, plan.max_length, places)
    question = {"corpus": curated.report["key"], "model": recipe.model}
    hunks = partial(held_out_hunks, changes.dataset, curated.verdicts, HUNKS)
    return probe.load_or_ask(recipe.output_dir / "probe.json", question, hunks)


def train_or_load(job: Job, plan: RunPlan, prepared: Prepared) -> Trained:
    """Train or resume; if an earlier start had finished training, load what it saved."""
    recipe, manifest = job.recipe, job.manifest
    if report := job.earlier.get("training"):
        manifest.update(corpus=job.earlier["corpus"], training=report)
        return Trained(job.source.tuned(recipe.output_dir), plan.max_length, report)
    new = None if prepared.topup is None else prepared.topup.new
    if job.processes.is_main_process:
        write_learned(recipe.output_dir, prepared.learned)  # before the first is learned
    fitted = fit_trainer(
        TrainingTask(
            recipe, job.source, prepared.tokenizer, prepared.corpus, new, job.previous, job.processes, job.interrupts
        ),
        plan,
    )
    manifest.update(plan=fitted.plan.entry(), corpus=fitted.data.report | {"cache": prepared.corpus.cache})
    trainer, length = fitted.trainer, fitted.plan.max_length
    with monitoring(trainer, manifest):
        report = train(trainer, job.interrupts)
        continued = None if prepared.topup is None else prepared.topup.report
        report |= {"continued_from": continued, "rolled_back": False}
        manifest.update(training=report)
    if not is_sharded():
        return Trained(trainer.accelerator.unwrap_model(trainer.model), length, report)
    # The main process runs the exam alone, without the shards of the others, so it loads the saved model.
    del trainer, fitted
    release_memory()
    job.processes.wait_for_everyone()
    return Trained(job.source.tuned(recipe.output_dir), length, report)


def run_exam_phase(job: Job, prepared: Prepared, trained: Trained) -> Trained:
    """Choose the adapter's scale and run the exam; return the trained model with the outcome in its report."""
    report, model, previous = dict(trained.report), trained.model, job.previous
    if report.get("rolled_back"):  # decided before a kill; the previous result may be in this directory already
        job.manifest.update(exam=job.earlier["exam"])
        return trained
    setup = ExamSetup(
        job.recipe, job.repositories, prepared.corpus, prepared.tokenizer, job.source, trained.max_length,
        max_positions(model.config),
    )  # fmt: skip
    if (strength := report.get("strength") or choose_strength_of(setup, model)) is not None:
        report |= {"strength": strength}
        job.manifest.update(training=report)  # before the scale is set: a resumed run must not choose again
        set_strength(model, job.recipe.output_dir, job.source.config.lora_alpha * strength["chosen"])
    outcome = examine(setup, model, None if previous is None else previous.path)
    report |= {"rolled_back": outcome.rolled_back}
    job.manifest.update(exam=outcome.summary, training=report)
    return replace(trained, report=report)


def save(job: Job, tokenizer: PreTrainedTokenizerBase, trained: Trained) -> None:
    """Save the better of the new and the previous result, check it by a reload, and record the files."""
    recipe, report = job.recipe, trained.report
    best = sft_config(recipe, job.source.precision).load_best_model_at_end and report["best_step"]
    job.manifest.update(generation=history(read_rows(recipe.output_dir), best or report["steps"]))
    run = CompletedRun(recipe.output_dir, recipe, job.manifest.content, job.source)
    better = job.previous if report["rolled_back"] else None
    loaded = LoadedModel(trained.model, tokenizer, job.source.precision.dtype)
    for entry in hand_over(run, loaded, better):
        job.manifest.update(**entry)
    job.manifest.add_artifacts(artifacts_of(recipe.output_dir))
