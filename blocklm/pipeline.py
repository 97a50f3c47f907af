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
from blocklm.corpus.prompt_templates import FAMILY, prompts_for
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
from blocklm.models.pretrained import positions, special_tokens
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
    """What every phase reads; each process of a distributed run holds its own.

    Attributes:
        recipe: the run.
        repositories: what it learns from.
        interrupts: requests to stop, from signals and from monitoring.
        processes: the processes that share the run.
        source: the base model.
        previous: the run that this one continues; None for a run that starts from the base model.
        earlier: the manifest of an earlier start in the same run directory; empty at the first.
        manifest: record of what each phase did; no phase reads it.
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
        processes.wait_for_everyone()  # all must have read it before the main process writes a new one
        manifest = Manifest(
            recipe.output_dir / "manifest.json",
            recipe.resolved(),
            writes=processes.is_main_process,
            kept={key: earlier.get(key) for key in ("plan", "training", "hardware")},
        )
        return cls(recipe, repositories, interrupts, processes, source, previous, earlier, manifest)


@dataclass(frozen=True)
class Prepared:
    """What is trained on and asked.

    Attributes:
        tokenizer: the model's.
        corpus: the samples; in a top-up without those of the later splits that the previous run learned.
        learned: ids of the commits that the result may have learned, those of the previous runs included.
        topup: what is new since the previous run; None for a run that starts from the base model.
    """

    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    learned: frozenset[str]
    topup: TopUp | None


@dataclass(frozen=True)
class Trained:
    """The model that came out of training, the tokens that its rows may have, and the manifest's `training`."""

    model: PreTrainedModel
    max_length: int
    report: Mapping[str, Any]


def run_job(recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> str | None:
    """Go through all phases; returns the summary on the main process, None on the others.

    Raises:
        UserError: the corpus, the model or the recipe cannot be worked with.
        Interrupted: a signal asked to stop; the checkpoint is saved and the manifest says so.
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
    """Build the corpus on the main process; the others wait and then read it."""
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
        prompts = best_prompts(prompts_for(special, recipe.sampling.template), scores, recipe.exam_view)
        if previous is not None:
            taught = previous.manifest["corpus"]["prompts"]
            prompts = {view: FAMILY[taught.get(view, family.name)] for view, family in prompts.items()}
        corpus = build_corpus(recipe, job.repositories, changes, prompts, special)
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
    """Bits per byte of the base model by view and family, where the recipe or the run's size asks for them."""
    recipe, args = job.recipe, sft_config(job.recipe, job.source.precision)
    samples = recipe.run.max_train_samples or curated.verdicts["split"][:].count("train")
    special = special_tokens(tokenizer)
    if not is_asked(recipe.sampling.template, special, recipe.views, samples_read(args, job.processes, samples)):
        return {}
    asker = TemplateProbe(job.source, tokenizer, recipe.views, plan.max_length)
    question = {"corpus": curated.report["key"], "model": recipe.model}
    hunks = partial(held_out_hunks, changes.dataset, curated.verdicts, HUNKS)
    return asker.load_or_ask(recipe.output_dir / "probe.json", question, hunks)


def train_or_load(job: Job, plan: RunPlan, prepared: Prepared) -> Trained:
    """Train or resume; of a run that was interrupted after its training, load what it saved."""
    recipe, manifest = job.recipe, job.manifest
    if report := job.earlier.get("training"):
        manifest.update(corpus=job.earlier["corpus"], training=report)
        return Trained(job.source.tuned(recipe.output_dir), plan.max_length, report)
    new = None if prepared.topup is None else prepared.topup.new
    if job.processes.is_main_process:
        write_learned(recipe.output_dir, prepared.learned)  # before the first of them is
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
    # In the exam the main process is alone and cannot ask the others' shards: it loads what was saved.
    del trainer, fitted
    release_memory()
    job.processes.wait_for_everyone()
    return Trained(job.source.tuned(recipe.output_dir), length, report)


def run_exam_phase(job: Job, prepared: Prepared, trained: Trained) -> Trained:
    """Choose the adapter's scale and run the exam; returns the trained model with the outcome in its report."""
    report, model, previous = dict(trained.report), trained.model, job.previous
    if report.get("rolled_back"):  # decided before a kill, after which the previous result may stand here already
        job.manifest.update(exam=job.earlier["exam"])
        return trained
    setup = ExamSetup(
        job.recipe, job.repositories, prepared.corpus, prepared.tokenizer, job.source, trained.max_length,
        positions(model.config),
    )  # fmt: skip
    if (strength := report.get("strength") or choose_strength_of(setup, model)) is not None:
        report |= {"strength": strength}
        job.manifest.update(training=report)  # first: after a kill nobody chooses of what was chosen
        set_strength(model, job.recipe.output_dir, job.source.config.lora_alpha * strength["chosen"])
    outcome = examine(setup, model, None if previous is None else previous.path)
    report |= {"rolled_back": outcome.rolled_back}
    job.manifest.update(exam=outcome.summary, training=report)
    return replace(trained, report=report)


def save(job: Job, tokenizer: PreTrainedTokenizerBase, trained: Trained) -> None:
    """Hand over the better result, checked by a reload, and record what was written."""
    recipe, report = job.recipe, trained.report
    best = sft_config(recipe, job.source.precision).load_best_model_at_end and report["best_step"]
    job.manifest.update(generation=history(read_rows(recipe.output_dir), best or report["steps"]))
    run = CompletedRun(recipe.output_dir, recipe, job.manifest.content, job.source)
    better = job.previous if report["rolled_back"] else None
    loaded = LoadedModel(trained.model, tokenizer, job.source.precision.dtype)
    for entry in hand_over(run, loaded, better):
        job.manifest.update(**entry)
    job.manifest.add_artifacts(artifacts_of(recipe.output_dir))
