"""The only file that knows files, devices and models together: pretrain, extend, evaluate, export."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import sharding
from longjax.attention.backends import default_backend
from longjax.attention.core import TokenPositions
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.extension import extend_params
from longjax.config import ModelConfig
from longjax.data import DataSource
from longjax.evals.benchmarks import score
from longjax.evals.evaluator import evaluate_in_memory
from longjax.evals.requests import Task
from longjax.inference.engine import InferenceEngine
from longjax.inference.evaluate import evaluate_tasks, plan_tasks
from longjax.methods import Method, method_identity
from longjax.methods.method import category, with_inserted_token
from longjax.model.llama import Llama
from longjax.model.placement import Placement, SingleDevice
from longjax.progress import ProgressFn, sub_progress
from longjax.sharding.distributed import barrier
from longjax.study.arms import Arm
from longjax.study.config import StudyConfig
from longjax.study.workspace import Workspace
from longjax.training import metrics_writer
from longjax.training.remat import REMAT
from longjax.training.train_step import Recipe, TrainState
from longjax.training.trainer import LoopConfig, Mesh, TrainingRun, train


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where and how a job runs, which does not change its result.

    Attributes:
      mesh: the devices; None: one.
      loop: saving, watching, logging of a training.
      init_from: folder of an earlier training, whose last weights are the first of this one.
      moments: whether the optimiser's moments are taken from there as well.
      average: whether the average of the weights is evaluated and exported, or the last ones.
      export_dir: a Hugging Face directory to write the result into.

    """

    mesh: Mesh = None
    loop: LoopConfig = LoopConfig()
    init_from: str | None = None
    init_opt_state: bool = False
    average: bool = True
    export_dir: str | None = None

    def scope(self, cfg: ModelConfig, rows: int, length: int) -> contextlib.AbstractContextManager:
        """Checks that the work can be split, and makes the mesh current."""
        if self.mesh is None:
            return contextlib.nullcontext()
        sharding.check_divisible(cfg, rows, length, self.mesh)
        return jax.set_mesh(self.mesh)

    def placement(self) -> Placement:
        return sharding.MeshPlacement() if self.mesh else SingleDevice()


SINGLE_DEVICE = RunConfig()
EVALS_IN_TRAINING = {"perplexity", "passkey"}  # tests of a model in training


def seconds_of_training(folder: pathlib.Path) -> float:
    """-> of all steps."""
    return (
        round(sum(m["seconds"] for m in metrics_writer.read_metrics(folder)), 1)
        if (folder / metrics_writer.NAME).exists()
        else 0.0
    )


def training_run(
    cfg: ModelConfig,
    method: Method,
    preset: StudyConfig,
    recipe: Recipe,
    rows: DataSource,
    folder: pathlib.Path,
    at: RunConfig,
) -> TrainingRun:
    model = Llama(
        cfg,
        method,
        train=True,
        backend=preset.attention or default_backend(),
        placement=at.placement(),
        remat_policy=REMAT[preset.remat],
    )
    what = {"model": dataclasses.asdict(cfg), "method": method_identity(method)}
    return TrainingRun(model, recipe, rows, folder, what, at.mesh, at.loop)


def initial(cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """-> random parameters of the base."""
    one = jnp.zeros((1, 8), jnp.int32)
    return jax.jit(lambda key: Llama(cfg).init(key, one, TokenPositions.whole(1, 8), 8)["params"])(jax.random.key(seed))


def base_params(space: Workspace, report: ProgressFn, at: RunConfig = SINGLE_DEVICE) -> dict[str, Any]:
    """-> parameters of the base: given, or the average at the end of its training."""
    preset, cfg = space.preset, space.preset.model
    if given := space.base_checkpoint():
        return pretrained.load(given.tensors, cfg, at.mesh, report=report)
    if preset.base is None:
        raise ValueError("this preset does not pretrain: name a Hugging Face directory with --base_dir")
    rows, recipe = space.base_rows(), preset.base
    with at.scope(cfg, recipe.batch_size, cfg.trained_len):
        run = training_run(cfg, Method(), preset, recipe, rows, space.seed_folder / "base", at)
        return train(run, initial(cfg, recipe.seed), report).params(average=True)


def extend(
    space: Workspace, arm: Arm, base: dict[str, Any], report: ProgressFn, at: RunConfig = SINGLE_DEVICE
) -> TrainState:
    """Trains the method, which starts with `base` and gives its memory away."""
    preset, recipe, method = space.preset, arm.recipe, arm.train_method or arm.method
    cfg = with_inserted_token(preset.model, method)
    params = extend_params(base, method, cfg, recipe.seed)
    rows = space.extend_rows(recipe)
    with at.scope(cfg, recipe.batch_size, rows.length):
        run = training_run(cfg, method, preset, recipe, rows, space.method_folder(arm.name), at)
        run = dataclasses.replace(run, init_from=at.init_from, init_opt_state=at.init_opt_state)
        return train(run, params, report, functools.partial(eval_in_training, space, arm, run.model, at))


def eval_in_training(
    space: Workspace, arm: Arm, model: Llama, at: RunConfig, params: dict[str, Any]
) -> dict[str, float]:
    """-> perplexity and pass keys at the length of training, in the middle of it."""
    model = dataclasses.replace(model, train=False)
    ask = InferenceEngine(model, params, space.tokenizer(), {}, at.mesh, space.preset.batch_tokens)
    tasks = plan_tests(space, EVALS_IN_TRAINING & {*arm.tests}, (space.preset.extended,))
    rows = [row for task in tasks for row in score(evaluate_in_memory(task, ask))]
    ppl = [row["value"] for row in rows if row["task"] == "perplexity"]
    keys = [row["value"] for row in rows if row["task"] == "passkey"]
    return {"perplexity": float(ppl[0] or np.nan), "passkey": float(np.mean(keys))}


def evaluate(
    space: Workspace, arm: Arm, params: dict[str, Any], tests: tuple[str, ...], weights: str, report: ProgressFn,
    at: RunConfig = SINGLE_DEVICE,
) -> None:  # fmt: skip
    """Puts every task to the model, and keeps the answers in the arm's folder; the first host writes them."""
    method, about, writes = arm.method, run_metadata(space, arm, weights), jax.process_index() == 0
    folder, cfg = space.method_folder(arm.name) / "evals" / weights, with_inserted_token(space.preset.model, method)
    params = sharding.shard_params(params, at.mesh) if at.mesh else jax.device_put(params)
    model = Llama(cfg, method, backend=space.preset.attention or default_backend(), placement=at.placement())
    subject = InferenceEngine(model, params, space.tokenizer(), about, at.mesh, space.preset.batch_tokens)
    tasks = plan_tests(space, tests, space.preset.lengths)
    evaluate_tasks(plan_tasks(tasks, subject), subject, folder, report, writes)


def plan_tests(space: Workspace, tests: Iterable[str], lengths: tuple[int, ...]) -> list[Task]:
    """-> of these tests; the first host puts on disk what is drawn, before the others read it."""
    tasks = space.tasks(tests, lengths) if jax.process_index() == 0 else []
    barrier("what is drawn is on disk")
    return tasks or space.tasks(tests, lengths)


def run_metadata(space: Workspace, arm: Arm, weights: str) -> dict[str, Any]:
    """-> what its records are of."""
    preset = space.preset
    return {
        "method": arm.name, "weights": weights, "kind": category(arm.method), "plan": space.extend_rows().sha256[:16],
        "train_seconds": seconds_of_training(space.method_folder(arm.name)), "seed": space.seed,
        "trained_len": preset.model.trained_len, "extended_len": preset.extended,
    }  # fmt: skip


def run_arm(space: Workspace, arm: Arm, report: ProgressFn, at: RunConfig = SINGLE_DEVICE) -> None:
    """One arm from the base to its records; what was done before is not done again."""
    given = space.base_checkpoint()
    arm = on_base_checkpoint(arm, given.method) if given else arm
    share, params = 0.65 if arm.trained else 0.0, base_params(space, sub_progress(report, 0.0, 0.0, "base "), at)
    state = extend(space, arm, params, sub_progress(report, 0.0, share), at) if arm.trained else None
    averaged = bool(state and state.ema and at.average)
    params = state.params(averaged) if state else params
    last = 0.9 if state and averaged and arm.raw_weight_tests else 1.0
    evaluate(space, arm, params, arm.tests, "ema" if averaged else "raw", sub_progress(report, share, last), at)
    if at.export_dir:
        how = pretrained.ExportOptions(length=space.preset.extended)
        pretrained.export(
            at.export_dir, params, with_inserted_token(space.preset.model, arm.method), arm.method, given, how
        )
    if state and last < 1:
        evaluate(
            space,
            arm,
            state.params(),
            arm.raw_weight_tests,
            "raw",
            sub_progress(report, last, 1.0, "last weights: "),
            at,
        )
    report(1.0, "done")


def on_base_checkpoint(arm: Arm, base: Method) -> Arm:
    return dataclasses.replace(
        arm, method=on_base(arm.method, base), train_method=arm.train_method and on_base(arm.train_method, base)
    )
