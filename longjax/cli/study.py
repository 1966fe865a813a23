"""Runs the controlled study: every method on one base, with one recipe and one set of tests; then writes the report.

  longjax-study --preset=mini --run_dir=runs/demo                               under ten minutes on two cores
  longjax-study --preset=h200_100m --text_dir=/data/texts --run_dir=runs/study  half an hour on two H200
  longjax-study --preset=paper --base_dir=/models/Llama-2-7b-hf --text_dir=/data/texts --run_dir=runs/paper

Each GPU runs several methods at a time. The same command resumes an interrupted study.
"""

import dataclasses

import jax
from absl import flags as absl_flags

from longjax import report
from longjax.cli import flags, options
from longjax.cli.main import start
from longjax.cli.names import did_you_mean
from longjax.cli.options import Options
from longjax.cli.train import prepare_workspace, seal_method
from longjax.methods import METHODS
from longjax.progress import MultiProgress
from longjax.report.study.page import PAGE, write_study_page
from longjax.study.arms import method_arm, variant_arms
from longjax.study.runner import RunConfig
from longjax.study.workers import ArmJob, PretrainJob, WorkerPool
from longjax.study.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Options of a study beside those of an experiment."""

    methods: str = "all"  # methods to compare, joined by commas; all: the preset's
    variants: bool = True  # run the preset's further arms too, each of which answers one question
    seeds: int | None = None  # number of the preset's seeds to run, from the first; None: all
    workers: int | None = None  # processes that run methods side by side, in all or on each GPU; None: the preset's

    def method_names(self, preset_methods: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the names of --methods; `preset_methods` if it is "all"."""
        names = preset_methods if self.methods == "all" else tuple(self.methods.split(","))
        for name in names:
            if name not in METHODS:
                raise ValueError(f"--methods={self.methods}: {name} is unknown{did_you_mean(name, METHODS)}")
        return names


def main(values: absl_flags.FlagValues = absl_flags.FLAGS, argv: list[str] | None = None) -> None:
    """The command longjax-study."""
    parse_options, study_options = options.define(values), flags.define(StudyOptions, values)

    def run() -> None:
        jax.config.update("jax_platforms", "cpu")  # of this process; the workers have the devices
        run_study(parse_options(), study_options())

    start(run, values, argv, __doc__)


def run_study(given: Options, chosen: StudyOptions) -> None:
    """Prepares the data, runs all arms in worker processes, and writes the report."""
    _, workspace, run_config = given
    if run_config.mesh or run_config.export_dir or run_config.init_from:
        raise ValueError("a study runs its methods on one device each: drop --mesh_*, --export_dir and --init_from")
    studies = seed_workspaces(workspace, chosen.seeds)
    arms = arm_jobs(studies, run_config, chosen)
    print("tokenizing text, writing tasks ...", flush=True)
    for study in studies:
        prepare_workspace(study)
    for job in arms:
        seal_method(job.workspace, job.arm.name, job.arm.train_method or job.arm.method)
    print(f"{workspace.store().manifest['tokens']:,} tokens in {workspace.folder}", flush=True)
    workspace.tasks(workspace.preset.tests, workspace.preset.lengths)  # so that the workers find the tasks on disk
    bases = [] if workspace.base_dir else [PretrainJob(study, run_config) for study in studies]
    progress = MultiProgress({job.name: job.cost for job in (*bases, *arms)})
    workers = WorkerPool(
        chosen.workers or workspace.preset.workers, (workspace.folder / "compiled").absolute(), progress
    )
    workers.run(bases, alone=True)
    workers.run(arms)
    write_study(workspace, len(studies))


def seed_workspaces(workspace: Workspace, seeds: int | None) -> list[Workspace]:
    """Returns a workspace a seed."""
    if workspace.preset.seeds == 1:
        return [workspace]
    return [workspace.with_seed(seed) for seed in range(workspace.preset.seeds)[:seeds]]


def arm_jobs(studies: list[Workspace], run_config: RunConfig, chosen: StudyOptions) -> list[ArmJob]:
    """Returns all arms: methods before variants, then by seed, and trained ones before frozen ones."""
    preset = studies[0].preset
    names = chosen.method_names(preset.methods)
    jobs = [ArmJob(study, method_arm(study.preset, name), run_config) for study in studies for name in names]
    jobs.sort(key=lambda job: (job.workspace.seed, not job.arm.trained))
    if chosen.variants:
        others = [ArmJob(study, arm, run_config) for study in studies for arm in variant_arms(study.preset)]
        jobs += sorted(others, key=lambda job: (job.workspace.seed, not job.arm.trained))
    return jobs


def write_study(workspace: Workspace, seeds: int) -> None:
    """Writes the report and prints its table: of one seed, or the page that compares several."""
    if seeds > 1:
        page = workspace.folder / "report"
        print(f"\n{write_study_page(workspace.folder, page)}\n\n{page / PAGE}")
    else:
        print(f"\n{report.write_report(workspace.seed_folder)}\n\nreport and plots: {workspace.seed_folder}/report.md")
