"""The controlled study: every method on one base, one plan, one recipe, one set of evaluators; then the report.

  python -m experiments.study --preset=mini --run_dir=runs/demo                  under ten minutes on two cores
  python -m experiments.study --preset=h200_100m --text_dir=... --run_dir=...    half an hour on two H200
  python -m experiments.study --preset=paper --base_dir=... --text_dir=...

Every GPU runs some methods at a time. It can be interrupted at any time; the same command goes on from there.
"""

import dataclasses

import jax

from longjax import report
from longjax.cli import flags, options
from longjax.cli import main as cli
from longjax.cli.names import did_you_mean
from longjax.methods import METHODS
from longjax.progress import MultiProgress
from longjax.report.study.page import PAGE, write_study_page
from longjax.study.arms import method_arm, variants
from longjax.study.runner import RunConfig
from longjax.study.workers import ArmJob, PretrainJob, WorkerPool
from longjax.study.workspace import Workspace


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
                raise ValueError(f"--methods={self.methods}: {name} is unknown{did_you_mean(name, METHODS)}")
        return names


asked, choice = options.define(), flags.define(Choice)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")  # of this process; the workers have the devices
    _, space, at = asked()
    if at.mesh or at.export_dir or at.init_from:
        raise ValueError("the study runs methods side by side on one device: for a mesh, run experiments.<method>")
    preset, studies = space.preset, of_seeds(space)
    comparisons = compared(studies, at)
    print("text to tokens, questions ...", flush=True)
    for study in studies:
        cli.prepare_workspace(study)
    for one in comparisons:
        cli.seal_method(one.space, one.arm.name, one.arm.train_method or one.arm.method)
    print(f"{space.store().manifest['tokens']:,} tokens in {space.folder}", flush=True)
    space.tasks(preset.tests, preset.lengths)  # what is drawn is on disk before workers want it
    bases = [] if space.base_dir else [PretrainJob(study, at) for study in studies]
    board = MultiProgress({options.name: options.cost for options in (*bases, *comparisons)})
    crew = WorkerPool(choice().workers or preset.workers, (space.folder / "compiled").absolute(), board)
    crew.run(bases, alone=True)
    crew.run(comparisons)
    if len(studies) > 1:
        print(f"\n{write_study_page(space.folder, page := space.folder / 'report')}\n\n{page / PAGE}")
    else:
        print(f"\n{report.write_report(space.seed_folder)}\n\nreport and plots: {space.seed_folder}/report.md")


def of_seeds(space: Workspace) -> list[Workspace]:
    several = space.preset.seeds
    return [space.with_seed(seed) for seed in range(several)[: choice().seeds]] if several > 1 else [space]


def compared(studies: list[Workspace], at: RunConfig) -> list[ArmJob]:
    """-> methods before variants, those of the first study first, what trains ahead of what does not."""
    preset, chosen = studies[0].preset, choice()
    names = chosen.names(preset.methods)
    methods = [ArmJob(study, method_arm(study.preset, name), at) for study in studies for name in names]
    others = [ArmJob(study, arm, at) for study in studies for arm in variants(study.preset)]
    order = sorted(methods, key=lambda one: (one.space.seed, not one.arm.trained))
    return order + sorted(others, key=lambda one: (one.space.seed, not one.arm.trained)) * chosen.variants


if __name__ == "__main__":
    cli.start(main)
