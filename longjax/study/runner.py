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
from longjax.attention.backends import best
from longjax.attention.core import Tokens
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.resize_vocab import grow_vocab
from longjax.config import ModelConfig
from longjax.data import Source
from longjax.evals.benchmarks import score
from longjax.evals.evaluator import answered
from longjax.evals.requests import Task
from longjax.inference.evaluate import examine_all, planned
from longjax.inference.language_model import Examinee
from longjax.methods import Method, method_identity
from longjax.methods.method import grown, kind
from longjax.model.llama import Llama
from longjax.model.placement import OneDevice, Placement
from longjax.progress import Report, part
from longjax.sharding.distributed import together
from longjax.study.arms import Arm
from longjax.study.config import Preset
from longjax.study.workspace import Workspace
from longjax.training import metrics_writer as logs
from longjax.training.remat import REMAT
from longjax.training.train_step import Recipe, State
from longjax.training.trainer import Loop, Mesh, Run, fit


@dataclasses.dataclass(frozen=True)
class Place:
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
    loop: Loop = Loop()
    init_from: str | None = None
    moments: bool = False
    average: bool = True
    export_dir: str | None = None

    def scope(self, cfg: ModelConfig, rows: int, length: int) -> contextlib.AbstractContextManager:
        """Checks that the work can be split, and makes the mesh current."""
        if self.mesh is None:
            return contextlib.nullcontext()
        sharding.check(cfg, rows, length, self.mesh)
        return jax.set_mesh(self.mesh)

    def placement(self) -> Placement:
        return sharding.OnMesh() if self.mesh else OneDevice()


ALONE = Place()
PROBES = {"perplexity", "passkey"}  # tests of a model in training


def seconds_of_training(folder: pathlib.Path) -> float:
    """-> of all steps."""
    return round(sum(m["seconds"] for m in logs.read(folder)), 1) if (folder / logs.NAME).exists() else 0.0


def training(
    cfg: ModelConfig, method: Method, preset: Preset, recipe: Recipe, rows: Source, folder: pathlib.Path, at: Place
) -> Run:
    model = Llama(
        cfg, method, train=True, softmax=preset.softmax or best(), place=at.placement(), keep=REMAT[preset.remat]
    )  # fmt: skip
    what = {"model": dataclasses.asdict(cfg), "method": method_identity(method)}
    return Run(model, recipe, rows, folder, what, at.mesh, at.loop)


def initial(cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """-> random parameters of the base."""
    one = jnp.zeros((1, 8), jnp.int32)
    return jax.jit(lambda key: Llama(cfg).init(key, one, Tokens.whole(1, 8), 8)["params"])(jax.random.key(seed))


def base_params(space: Workspace, report: Report, at: Place = ALONE) -> dict[str, Any]:
    """-> parameters of the base: given, or the average at the end of its training."""
    preset, cfg = space.preset, space.preset.model
    if given := space.given():
        return pretrained.load(given.tensors, cfg, at.mesh, report=report)
    if preset.base is None:
        raise ValueError("this preset does not pretrain: name a Hugging Face directory with --base_dir")
    rows, recipe = space.base_rows(), preset.base
    with at.scope(cfg, recipe.rows, cfg.trained_len):
        run = training(cfg, Method(), preset, recipe, rows, space.own / "base", at)
        return fit(run, initial(cfg, recipe.seed), report).params(average=True)


def extend(space: Workspace, arm: Arm, base: dict[str, Any], report: Report, at: Place = ALONE) -> State:
    """Trains the method, which starts with `base` and gives its memory away."""
    preset, recipe, method = space.preset, arm.recipe, arm.taught or arm.method
    cfg = grown(preset.model, method)
    own = method.own(jax.random.key(recipe.seed), cfg)
    params = {**(grow_vocab(base) if method.insert else base), **({"method": own} if own else {})}
    rows = space.extend_rows(recipe)
    with at.scope(cfg, recipe.rows, rows.length):
        run = training(cfg, method, preset, recipe, rows, space.method_folder(arm.name), at)
        run = dataclasses.replace(run, init_from=at.init_from, moments=at.moments)
        return fit(run, params, report, functools.partial(probed, space, arm, run.model, at))


def probed(space: Workspace, arm: Arm, model: Llama, at: Place, params: dict[str, Any]) -> dict[str, float]:
    """-> perplexity and pass keys at the length of training, in the middle of it."""
    model = dataclasses.replace(model, train=False)
    ask = Examinee(model, params, space.tokenizer(), {}, at.mesh, space.preset.tokens_a_call)
    tasks = questions(space, PROBES & {*arm.tests}, (space.preset.extended,))
    rows = [row for task in tasks for row in score(answered(task, ask))]
    ppl = [row["value"] for row in rows if row["task"] == "perplexity"]
    keys = [row["value"] for row in rows if row["task"] == "passkey"]
    return {"perplexity": float(ppl[0] or np.nan), "passkey": float(np.mean(keys))}


def evaluate(
    space: Workspace, arm: Arm, params: dict[str, Any], tests: tuple[str, ...], weights: str, report: Report,
    at: Place = ALONE,
) -> None:  # fmt: skip
    """Puts every task to the model, and keeps the answers in the arm's folder; the first host writes them."""
    method, about, writes = arm.method, identity(space, arm, weights), jax.process_index() == 0
    folder, cfg = space.method_folder(arm.name) / "evals" / weights, grown(space.preset.model, method)
    params = sharding.put(params, at.mesh) if at.mesh else jax.device_put(params)
    model = Llama(cfg, method, softmax=space.preset.softmax or best(), place=at.placement())
    subject = Examinee(model, params, space.tokenizer(), about, at.mesh, space.preset.tokens_a_call)
    tasks = questions(space, tests, space.preset.lengths)
    examine_all(planned(tasks, subject), subject, folder, report, writes)


def questions(space: Workspace, tests: Iterable[str], lengths: tuple[int, ...]) -> list[Task]:
    """-> of these tests; the first host puts on disk what is drawn, before the others read it."""
    tasks = space.tasks(tests, lengths) if jax.process_index() == 0 else []
    together("what is drawn is on disk")
    return tasks or space.tasks(tests, lengths)


def identity(space: Workspace, arm: Arm, weights: str) -> dict[str, Any]:
    """-> what its records are of."""
    preset = space.preset
    return {
        "method": arm.name, "weights": weights, "kind": kind(arm.method), "plan": space.extend_rows().sha256[:16],
        "train_seconds": seconds_of_training(space.method_folder(arm.name)), "seed": space.seed,
        "trained_len": preset.model.trained_len, "extended_len": preset.extended,
    }  # fmt: skip


def run(space: Workspace, arm: Arm, report: Report, at: Place = ALONE) -> None:
    """One arm from the base to its records; what was done before is not done again."""
    given = space.given()
    arm = of_checkpoint(arm, given.method) if given else arm
    share, params = 0.65 if arm.trained else 0.0, base_params(space, part(report, 0.0, 0.0, "base "), at)
    state = extend(space, arm, params, part(report, 0.0, share), at) if arm.trained else None
    averaged = bool(state and state.ema and at.average)
    params = state.params(averaged) if state else params
    last = 0.9 if state and averaged and arm.few else 1.0
    evaluate(space, arm, params, arm.tests, "ema" if averaged else "raw", part(report, share, last), at)
    if at.export_dir:
        how = pretrained.How(length=space.preset.extended)
        pretrained.export(at.export_dir, params, grown(space.preset.model, arm.method), arm.method, given, how)
    if state and last < 1:
        evaluate(space, arm, state.params(), arm.few, "raw", part(report, last, 1.0, "last weights: "), at)
    report(1.0, "done")


def of_checkpoint(arm: Arm, base: Method) -> Arm:
    return dataclasses.replace(arm, method=on_base(arm.method, base), taught=arm.taught and on_base(arm.taught, base))
