"""The controlled study: every method on one base, one plan, one recipe, one set of evaluators; then the report.

  python -m experiments.study --preset=mini --run_dir=runs/demo                  under ten minutes on two cores
  python -m experiments.study --preset=h200_100m --text_dir=... --run_dir=...    half an hour on two H200
  python -m experiments.study --preset=llama2_7b --base_dir=... --text_dir=...

Every GPU runs some methods at a time. It can be interrupted at any time; the same command goes on from there.
"""

import dataclasses

import jax

from longjax import cli, flags, job, report
from longjax.arms import Arm, arms
from longjax.job import suggestion
from longjax.launch import Place
from longjax.methods import METHODS
from longjax.progress import Board
from longjax.workers import Crew, Job
from longjax.workspace import Workspace

BASE, TRAINED, FROZEN = 16.0, 9.0, 3.0  # what they cost, relative to each other


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is studied."""

    methods: str = "all"  # or names joined by commas
    variants: bool = True  # the preset's further arms, which answer single questions
    seeds: int | None = None  # the first so many of the preset's; None: all
    workers: int | None = None  # processes that run methods side by side, in all or on each GPU; None: the preset's

    def names(self, preset_methods: tuple[str, ...]) -> tuple[str, ...]:
        names = preset_methods if self.methods == "all" else tuple(self.methods.split(","))
        for name in names:
            if name not in METHODS:
                raise ValueError(f"--methods={self.methods}: {name} is unknown{suggestion(name, METHODS)}")
        return names


asked, choice = job.define(), flags.define(Choice)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")  # of this process; the workers have the devices
    _, space, at = asked()
    if at.mesh or at.export_dir or at.init_from:
        raise ValueError("the study runs methods side by side on one device: for a mesh, run experiments.<method>")
    chosen = choice()
    compared = arms(space.preset, chosen.names(space.preset.methods), chosen.variants)
    print("text to tokens, questions ...", flush=True)
    seeds = range(min(space.preset.seeds, chosen.seeds or space.preset.seeds))
    studies = [space.of_seed(seed) for seed in seeds] if space.preset.seeds > 1 else [space]
    for study in studies:
        cli.prepare(study)
        for arm in compared:
            cli.seal_method(study, arm.name, arm.taught or arm.method)
    print(f"{space.store().manifest['tokens']:,} tokens in {space.folder}", flush=True)
    space.tasks(space.preset.tests, space.preset.lengths)  # what is drawn is on disk before workers want it
    run_all(studies, compared, at, chosen.workers or space.preset.workers)
    print(f"\n{report.write(space.folder)}\n\nreport and plots: {space.folder}/report.md")


def run_all(studies: list[Workspace], compared: list[Arm], at: Place, workers: int) -> None:
    """The bases, one on each device, then the arms side by side: the first study's first, those that train ahead."""
    bases = [] if studies[0].base_dir else [Job(study, None, at) for study in studies]
    order = sorted(compared, key=lambda arm: not arm.trained)
    jobs = [Job(study, arm, at) for study in studies for arm in order]
    board = Board({job.name: cost(job) for job in bases + jobs})
    crew = Crew(workers, (studies[0].folder / "compiled").absolute(), board)
    crew.do(bases, alone=True)
    crew.do(jobs)


def cost(job: Job) -> float:
    return BASE if job.arm is None else TRAINED if job.arm.trained else FROZEN


if __name__ == "__main__":
    cli.start(main)
