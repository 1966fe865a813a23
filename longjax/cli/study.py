r"""Runs the controlled study: every method on one base, with one recipe and one set of tests; then writes the report.

  longjax-study --preset=mini --run_dir=runs/demo                               under ten minutes on two cores
  longjax-study --preset=h200_100m --text_dir=/data/texts --run_dir=runs/study  half an hour on two H200
  longjax-study --base_dir=/models/SmolLM2-135M --extended=32768 --tokens=13e6 --text_dir=/data/texts \
      --run_dir=runs/smollm2 --dry_run                                          any model: all else is derived
  longjax-study --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/texts --run_dir=runs/paper

Each GPU runs several methods at a time. The same command resumes an interrupted study. --arms runs a part of it, and
--merge=FOLDER,FOLDER brings the parts that several machines have run into --run_dir.
"""

import dataclasses
import functools

import jax
from absl import flags as absl_flags

from longjax import report
from longjax.cli import flags, options
from longjax.cli.derived_study import derived_study, fitting_study
from longjax.cli.main import start
from longjax.cli.names import did_you_mean
from longjax.cli.options import ExperimentOptions, Options, named_preset
from longjax.cli.train import prepare_workspace, seal_method
from longjax.methods import METHODS
from longjax.progress import MultiProgress
from longjax.report.study.page import PAGE, write_study_page
from longjax.study.arms import Arm, method_arm, variant_arm
from longjax.study.config import StudyConfig
from longjax.study.derived import Goal
from longjax.study.devices import probe_devices
from longjax.study.merge import merge_runs
from longjax.study.runner import RunConfig
from longjax.study.workers import ArmJob, PretrainJob, WorkerPool
from longjax.study.workspace import Workspace, with_base_model


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Options of a study beside those of an experiment."""

    arms: str = "all"  # methods and further arms to run, joined by commas; all: the preset's
    variants: bool = True  # run the preset's further arms too, each of which answers one question; with --arms=all
    seeds: int | None = None  # number of the preset's seeds to run, from the first; None: all
    workers: int | None = None  # processes that run methods side by side, in all or on each GPU; None: the preset's
    merge: str | None = None  # folders of the same study, joined by commas, whose arms are copied into --run_dir first
    dry_run: bool = False  # print the plan and stop

    def arms_of(self, preset: StudyConfig) -> list[Arm]:
        """Returns the arms of --arms. Raises ValueError for an unknown one."""
        names = (*preset.methods, *(preset.variants if self.variants else ()))
        chosen = names if self.arms == "all" else tuple(self.arms.split(","))
        for name in chosen:
            if name not in METHODS and name not in preset.variants:
                known = {*METHODS, *preset.variants}
                raise ValueError(f"--arms={self.arms}: {name} is unknown{did_you_mean(name, known)}")
        return [
            variant_arm(preset, name, preset.variants[name]) if name in preset.variants else method_arm(preset, name)
            for name in chosen
        ]


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-study."""
    study_options, goal = flags.define(StudyOptions, values), flags.define(Goal, values)
    device = functools.cache(probe_devices)

    def preset_of(chosen: ExperimentOptions) -> StudyConfig:
        if not goal().extended:
            return named_preset(chosen)
        return derived_study(chosen, goal(), device(), study_options().arms_of)

    parse_options = options.define(values, preset_of)

    def run() -> None:
        jax.config.update("jax_platforms", "cpu")  # of this process; the workers have the devices
        given = parse_options()
        if goal().extended:
            preset = dataclasses.replace(given.workspace.preset, workers=study_options().workers or 1)
            preset, plan = fitting_study(preset, study_options().arms_of(preset), device())
            print(plan, flush=True)
            given = given._replace(workspace=dataclasses.replace(given.workspace, preset=preset))
        if not study_options().dry_run:
            run_study(given._replace(workspace=with_base_model(given.workspace)), study_options())

    start(run, values, argv, __doc__)


def run_study(given: Options, chosen: StudyOptions) -> None:
    """Prepares the data, runs all arms in worker processes, and writes the report."""
    _, workspace, run_config = given
    if run_config.mesh or run_config.export_dir or run_config.init_from:
        raise ValueError("a study runs its methods on one device each: drop --mesh_*, --export_dir and --init_from")
    studies = seed_workspaces(workspace, chosen.seeds)
    jobs = arm_jobs(studies, run_config, chosen)
    print("tokenizing text, writing tasks ...", flush=True)
    for study in studies:
        prepare_workspace(study)
    merge_runs(workspace, chosen.merge.split(",") if chosen.merge else [])
    for job in jobs:
        seal_method(job.workspace, job.arm.name, job.arm.train_method or job.arm.method)
    print(f"{workspace.store().manifest['tokens']:,} tokens in {workspace.folder}", flush=True)
    workspace.tasks(workspace.preset.tests, workspace.preset.lengths)  # so that the workers find the tasks on disk
    bases = [] if workspace.base_dir else [PretrainJob(study, run_config) for study in studies]
    progress = MultiProgress({job.name: job.cost for job in (*bases, *jobs)})
    workers = WorkerPool(
        chosen.workers or workspace.preset.workers, (workspace.folder / "compiled").absolute(), progress
    )
    workers.run(bases, alone=True)
    workers.run([job for job in jobs if job.arm.on is None])
    workers.run([job for job in jobs if job.arm.on])  # whose weights the others have trained
    write_study(workspace, len(studies))


def seed_workspaces(workspace: Workspace, seeds: int | None) -> list[Workspace]:
    """Returns a workspace a seed."""
    if workspace.preset.seeds == 1:
        return [workspace]
    return [workspace.with_seed(seed) for seed in range(workspace.preset.seeds)[:seeds]]


def arm_jobs(studies: list[Workspace], run_config: RunConfig, chosen: StudyOptions) -> list[ArmJob]:
    """Returns all arms: methods before variants, then by seed, and trained ones before frozen ones."""
    jobs = [ArmJob(study, arm, run_config) for study in studies for arm in chosen.arms_of(study.preset)]
    variants = studies[0].preset.variants
    return sorted(jobs, key=lambda job: (job.arm.name in variants, job.workspace.seed, not job.arm.trained))


def write_study(workspace: Workspace, seeds: int) -> None:
    """Writes the report and prints its table: of one seed, or the page of several or of a derived study."""
    if seeds > 1 or workspace.preset.further:
        page = workspace.folder / "report"
        print(f"\n{write_study_page(workspace.folder, page)}\n\n{page / PAGE}")
    else:
        print(f"\n{report.write_report(workspace.seed_folder)}\n\nreport and plots: {workspace.seed_folder}/report.md")
