"""A study without a preset: derived from --base_dir, --extended and a budget, and its plan in words."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import method_of, model_of
from longjax.checkpoints.extension import from_all_it_reads
from longjax.cli.options import ExperimentOptions
from longjax.config import ModelConfig
from longjax.report.tables import terminal
from longjax.study.arms import Arm
from longjax.study.config import StudyConfig
from longjax.study.derived import Goal, derived_config
from longjax.study.devices import Device
from longjax.study.step_memory import fitted
from longjax.study.study_plan import arm_costs, parameters
from longjax.training.flops import parameter_count

FEWEST_SAMPLES = 4


def plan_text(study: StudyConfig, arms: Sequence[Arm], device: Device, training_bytes: int) -> str:
    """Returns the plan for a terminal: parameters with reasons, arms with hours, memory, and the whole."""
    costs, size = arm_costs(study, arms, device), parameter_count(study.model)
    limit = f" of {device.memory / study.workers / 2**30:.0f}" if device.memory else ""
    rows = [["parameter", "value", "why"], *map(list, parameters(study))]
    lines = [["arm", "kind", "hours of training", "of evaluation"]]
    lines += [[c.arm, c.kind, f"{c.training / 3600:.2g}", f"{c.evaluation / 3600:.2g}"] for c in costs]
    hours = sum(c.training + c.evaluation for c in costs) / 3600
    return "\n\n".join(
        [
            f"{size / 1e6:.4g} M parameters, {study.model.trained_len:,} to {study.extended:,} tokens",
            terminal(rows, left=3),
            terminal(lines),
            f"a training step needs about {training_bytes / 2**30:.2g} GiB{limit} (--remat={study.remat}, "
            f"--micro_batch_size={study.extend.micro_batch_size})",
            f"{len(costs)} arms, {hours:.2g} device hours on {device.number} x {device.kind} at "
            f"{device.flops / 1e12:.3g} TFLOP/s in products; corrected by the measured rate as the study runs",
        ]
    )


def derived_study(
    chosen: ExperimentOptions, goal: Goal, device: Device, arms_of: Callable[[StudyConfig], list[Arm]]
) -> StudyConfig:
    """Returns the study that follows from --base_dir, --extended and the budget.

    Args:
      chosen: with the base.
      goal: length and budget.
      device: that it is to run on.
      arms_of: the arms of a study that are run.

    Raises:
      ValueError: there is no base, or the budget is too small.

    """
    if not chosen.base_dir:
        raise ValueError("--extended needs --base_dir: the checkpoint that is extended")
    if chosen.preset != ExperimentOptions.preset:
        raise ValueError(f"--extended derives the study from --base_dir: drop --preset={chosen.preset}")
    cfg = base_config(pathlib.Path(chosen.base_dir))
    cfg = dataclasses.replace(cfg, dtype="bfloat16" if device.memory else "float32")  # CPUs are slower in bfloat16
    extended, samples = goal.extended or cfg.trained_len, goal.samples
    study = derived_config(cfg, extended, goal.tokens, samples, goal.ruler(samples))
    while goal.hours and (hours := study_hours(study, arms_of(study), device)) > goal.hours:
        if samples // 2 < FEWEST_SAMPLES:
            raise ValueError(f"--hours={goal.hours:g}: with {samples} questions a task it takes {hours:.2g} hours")
        samples //= 2
        study = derived_config(cfg, extended, goal.tokens, samples, goal.ruler(samples))
    return study


def base_config(folder: pathlib.Path) -> ModelConfig:
    """Returns the model of a base, trained on all that it reads now; a config.json suffices, without weights."""
    if (folder / "config.json").exists():
        config = pretrained.read_config(folder)
        return from_all_it_reads(model_of(config), method_of(config), config)[0]
    checkpoint = pretrained.open_checkpoint(folder)
    return from_all_it_reads(checkpoint.cfg, checkpoint.method, checkpoint.config)[0]


def fitting_study(study: StudyConfig, arms: Sequence[Arm], device: Device) -> tuple[StudyConfig, str]:
    """Returns the study with batches and rematerialization that fit a worker's part of a device, and its plan."""
    memory = device.memory and device.memory // study.workers
    study, training_bytes = fitted(study, memory, device.platform)
    return study, plan_text(study, arms, device, training_bytes)


def study_hours(study: StudyConfig, arms: Sequence[Arm], device: Device) -> float:
    """Returns the estimated hours of a study's arms on all devices together."""
    return sum(cost.training + cost.evaluation for cost in arm_costs(study, arms, device)) / 3600 / device.number
