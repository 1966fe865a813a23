"""Runs one arm of a study: loads or pretrains the base, trains the method, evaluates it, and exports the result."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import files, sharding
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
from longjax.locks import locked
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
from longjax.training.recipe import Recipe
from longjax.training.remat import REMAT
from longjax.training.train_step import TrainState
from longjax.training.trainer import LoopConfig, Mesh, TrainingRun, train


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Devices and files of a run; except for `init_*` and `average`, nothing here changes its result.

    Attributes:
      mesh: the devices; None: one.
      loop: saving, evaluating and logging during training.
      init_from: folder of an earlier training, whose last weights training starts from; None: the base.
      init_opt_state: whether the optimizer's moments are taken from there, too.
      average: whether the average of the weights is evaluated and exported, or the last ones.
      export_dir: a Hugging Face directory to write the result to; None: it is not exported.

    """

    mesh: Mesh = None
    loop: LoopConfig = LoopConfig()
    init_from: str | None = None
    init_opt_state: bool = False
    average: bool = True
    export_dir: str | None = None

    def scope(self, cfg: ModelConfig, rows: int, length: int) -> contextlib.AbstractContextManager:
        """Returns a context in which the mesh is current. Raises ValueError if the work cannot be split over it."""
        if self.mesh is None:
            return contextlib.nullcontext()
        sharding.check_divisible(cfg, rows, length, self.mesh)
        return jax.set_mesh(self.mesh)

    def placement(self) -> Placement:
        """Returns how the model places its arrays."""
        return sharding.MeshPlacement() if self.mesh else SingleDevice()


SINGLE_DEVICE = RunConfig()
EVALS_IN_TRAINING = {"perplexity", "passkey"}  # the tests of --eval_every


def run_arm(workspace: Workspace, arm: Arm, report: ProgressFn, run_config: RunConfig = SINGLE_DEVICE) -> None:
    """Runs one arm from the base to its records. Steps that an earlier call has finished are not repeated.

    Raises ValueError if another process runs this arm in the same folder.
    """
    with first_process_holds(workspace.method_folder(arm.name)):
        run_held_arm(workspace, arm, report, run_config)


def first_process_holds(folder: pathlib.Path, wait: bool = False) -> contextlib.AbstractContextManager[None]:
    """Returns the lock of a folder of --run_dir, which the first process of several hosts holds for all."""
    return contextlib.nullcontext() if jax.process_index() else locked(folder, "--run_dir", wait)


def run_held_arm(workspace: Workspace, arm: Arm, report: ProgressFn, run_config: RunConfig) -> None:
    """Runs one arm, whose folder is held."""
    checkpoint = workspace.base_checkpoint()
    if checkpoint:
        arm = on_base_checkpoint(arm, checkpoint.method)
    check_before_training(workspace, arm, run_config)
    share, state = 0.65 if arm.trained else 0.0, None
    params = base_params(workspace, sub_progress(report, 0.0, 0.0, "base "), run_config)
    if arm.trained or arm.on:
        state = extend(workspace, arm.on or arm, params, sub_progress(report, 0.0, share), run_config)
    averaged = bool(state and state.ema and run_config.average)
    params = state.params(averaged) if state else params
    last = 0.9 if averaged and arm.raw_weight_tests else 1.0
    weights, progress = "ema" if averaged else "raw", sub_progress(report, share, last)
    if run_config.export_dir:
        cfg, options = workspace.preset.model, pretrained.ExportOptions(length=workspace.preset.extended)
        cfg = with_inserted_token(cfg, arm.method)
        pretrained.export(run_config.export_dir, params, cfg, arm.method, checkpoint, options)
    evaluate_arm(workspace, arm, params, arm.tests, weights, progress, run_config)
    if state and last < 1:
        progress = sub_progress(report, last, 1.0, "last weights: ")
        evaluate_arm(workspace, arm, state.params(), arm.raw_weight_tests, "raw", progress, run_config)
    report(1.0, "done")


def check_before_training(workspace: Workspace, arm: Arm, run_config: RunConfig) -> None:
    """Raises ValueError, before the first step, for tests that cannot be made and an --export_dir that cannot be."""
    tests = arm.tests + arm.raw_weight_tests if arm.trained else arm.tests
    plan_tests(workspace, dict.fromkeys(tests), workspace.preset.lengths)
    if run_config.export_dir:
        files.check_writable(pathlib.Path(run_config.export_dir))


def on_base_checkpoint(arm: Arm, base: Method) -> Arm:
    """Returns the arm with its methods on top of what the base checkpoint has, such as Mistral's window."""
    train_method = arm.train_method and on_base(arm.train_method, base)
    on = arm.on and on_base_checkpoint(arm.on, base)
    return dataclasses.replace(arm, method=on_base(arm.method, base), train_method=train_method, on=on)


def base_params(workspace: Workspace, report: ProgressFn, run_config: RunConfig = SINGLE_DEVICE) -> dict[str, Any]:
    """Returns the base's parameters: those of --base_dir, or the average at the end of its pretraining.

    Raises ValueError if there is neither a base nor a recipe to pretrain one.
    """
    preset, cfg = workspace.preset, workspace.preset.model
    if checkpoint := workspace.base_checkpoint():
        return pretrained.load(checkpoint.tensors, cfg, run_config.mesh, report=report)
    if preset.base is None:
        raise ValueError("this preset does not pretrain: name a Hugging Face directory with --base_dir")
    rows, recipe = workspace.base_rows(), preset.base
    folder = workspace.seed_folder / "base"  # two methods of one run may need it at a time: the second waits
    with first_process_holds(folder, wait=True), run_config.scope(cfg, recipe.batch_size, cfg.trained_len):
        run = training_run(cfg, Method(), preset, recipe, rows, folder, run_config)
        return train(run, random_params(cfg, recipe.seed), report).params(average=True)


def random_params(cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """Returns initial parameters of a base model."""
    tokens_BT = jnp.zeros((1, 8), jnp.int32)
    init = jax.jit(lambda key: Llama(cfg).init(key, tokens_BT, TokenPositions.whole(1, 8), 8)["params"])
    return init(jax.random.key(seed))


def extend(
    workspace: Workspace, arm: Arm, base: dict[str, Any], report: ProgressFn, run_config: RunConfig = SINGLE_DEVICE
) -> TrainState:
    """Trains the arm from `base` parameters, whose buffers are donated."""
    preset, recipe, method = workspace.preset, arm.recipe, arm.train_method or arm.method
    cfg = with_inserted_token(preset.model, method)
    params = extend_params(base, method, cfg, recipe.seed)
    rows = workspace.extend_rows(recipe, arm.length)
    with run_config.scope(cfg, recipe.batch_size, rows.length):
        run = training_run(cfg, method, preset, recipe, rows, workspace.method_folder(arm.name), run_config)
        run = dataclasses.replace(run, init_from=run_config.init_from, init_opt_state=run_config.init_opt_state)
        eval_fn = functools.partial(eval_in_training, workspace, arm, run.model, run_config)
        return train(run, params, report, eval_fn)


def training_run(
    cfg: ModelConfig, method: Method, preset: StudyConfig, recipe: Recipe, rows: DataSource, folder: pathlib.Path,
    run_config: RunConfig,
) -> TrainingRun:  # fmt: skip
    """Returns a training of `method` on `rows`, with its checkpoints and its log in `folder`."""
    model = Llama(
        cfg, method, train=True, backend=preset.attention or default_backend(), placement=run_config.placement(),
        remat_policy=REMAT[preset.remat],
    )  # fmt: skip
    identity = {"model": dataclasses.asdict(cfg), "method": method_identity(method)}
    return TrainingRun(model, recipe, rows, folder, identity, run_config.mesh, run_config.loop)


def eval_in_training(
    workspace: Workspace, arm: Arm, model: Llama, run_config: RunConfig, params: dict[str, Any]
) -> dict[str, float]:
    """Returns perplexity and pass-key accuracy at the length of training, of a model in training."""
    preset, model = workspace.preset, dataclasses.replace(model, train=False)
    engine = InferenceEngine(model, params, workspace.tokenizer(), {}, run_config.mesh, preset.batch_tokens)
    tasks = plan_tests(workspace, EVALS_IN_TRAINING & {*arm.tests}, (preset.extended,))
    rows = [row for task in tasks for row in score(evaluate_in_memory(task, engine))]
    perplexity = [row["value"] for row in rows if row["task"] == "perplexity"]
    accuracy = [row["value"] for row in rows if row["task"] == "passkey"]
    return {"perplexity": float(perplexity[0] or np.nan), "passkey": float(np.mean(accuracy))}


def evaluate_arm(
    workspace: Workspace, arm: Arm, params: dict[str, Any], tests: tuple[str, ...], weights: str, report: ProgressFn,
    run_config: RunConfig = SINGLE_DEVICE,
) -> None:  # fmt: skip
    """Evaluates an arm; process 0 writes the records into the arm's folder.

    Args:
      workspace: of the study.
      arm: to evaluate.
      params: its parameters.
      tests: names of the tests.
      weights: "ema" or "raw", which names the records' folder.
      report: progress callback.
      run_config: the devices.

    """
    preset, mesh, metadata = workspace.preset, run_config.mesh, run_metadata(workspace, arm, weights)
    cfg, backend = with_inserted_token(preset.model, arm.method), preset.attention or default_backend()
    params = sharding.shard_params(params, mesh) if mesh else jax.device_put(params)
    model = Llama(cfg, arm.method, backend=backend, placement=run_config.placement())
    engine = InferenceEngine(model, params, workspace.tokenizer(), metadata, mesh, preset.batch_tokens)
    tasks = plan_tests(workspace, tests, preset.lengths)
    folder = workspace.method_folder(arm.name) / "evals" / weights
    evaluate_tasks(plan_tasks(tasks, engine, folder), engine, folder, report, jax.process_index() == 0)


def plan_tests(workspace: Workspace, tests: Iterable[str], lengths: tuple[int, ...]) -> list[Task]:
    """Returns the tasks of tests by name. Process 0 writes their files before the other processes read them."""
    tasks = workspace.tasks(tests, lengths) if jax.process_index() == 0 else []
    barrier("task files written")
    return tasks or workspace.tasks(tests, lengths)


def run_metadata(workspace: Workspace, arm: Arm, weights: str) -> dict[str, Any]:
    """Returns the description of an arm that its records refer to."""
    preset, folder = workspace.preset, workspace.method_folder(arm.name)
    return {
        "method": arm.name, "weights": weights, "kind": category(arm.method),
        "plan": workspace.extend_rows().sha256[:16], "train_seconds": training_seconds(folder),
        "seed": workspace.seed, "trained_len": preset.model.trained_len, "extended_len": preset.extended,
    }  # fmt: skip


def training_seconds(folder: pathlib.Path) -> float:
    """Returns the seconds of all training steps in a folder's log; 0 if it has none."""
    if not (folder / metrics_writer.NAME).exists():
        return 0.0
    return round(sum(step["seconds"] for step in metrics_writer.read_metrics(folder)), 1)
