"""The only file that knows files, devices and models together: pretrain, extend, evaluate."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax import pretrained, sharding
from longjax.attention import Tokens
from longjax.checkpoint import Checkpoints
from longjax.config import ModelConfig
from longjax.evals.passkey import Passkey
from longjax.evals.perplexity import Perplexity, windows
from longjax.evals.task import Records, Task
from longjax.llama import Llama, OneDevice, Placement
from longjax.methods import Method
from longjax.presets import Preset
from longjax.progress import Report
from longjax.recall import Phrases
from longjax.score import Scorer
from longjax.train import Recipe, State, new_state, train_step
from longjax.vocab import grow_vocab
from longjax.workspace import Workspace

Batches = Callable[[int], dict[str, np.ndarray]]  # step -> batch
Mesh = jax.sharding.Mesh | None  # None: one device
SAVE_EVERY = 30.0  # seconds: what a kill may cost


def kind(method: Method) -> str:
    """-> the method's group in tables."""
    if method == Method(trainable=method.trainable):
        return "base"
    return f"{'exact' if method.exact else 'approximate'} {'trained' if method.trained else 'frozen'}"


def grown(cfg: ModelConfig, method: Method) -> ModelConfig:
    """The model with a token more, if the method inserts one."""
    return dataclasses.replace(cfg, vocab=cfg.vocab + (method.insert is not None))


def as_batch(tokens_BS: np.ndarray, weights_BT: np.ndarray, method: Method, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """Rows and the weights of their targets, as the method trains on them: in pieces, with its own tokens."""
    if method.piece:
        tokens_BS, weights_BT = pieces(tokens_BS, weights_BT, method.piece)
    if method.insert:
        longer_BS, real_BS = method.insert(tokens_BS, cfg.vocab - 1)
        weights = np.ones(longer_BS.shape, np.float32)
        weights[real_BS] = np.pad(weights_BT, [(0, 0), (1, 0)]).ravel()
        tokens_BS, weights_BT = longer_BS, weights[:, 1:]
    index_BT = np.broadcast_to(np.arange(weights_BT.shape[1], dtype=np.int32), weights_BT.shape)
    tokens_BT, targets_BT = tokens_BS[:, :-1].astype(np.int32), tokens_BS[:, 1:].astype(np.int32)
    return {"tokens_BT": tokens_BT, "targets_BT": targets_BT, "index_BT": index_BT, "weights_BT": weights_BT}


def pieces(tokens_BS: np.ndarray, weights_BT: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row of T tokens and a last target as T / size shorter rows."""
    if weights_BT.shape[1] % size:
        raise ValueError(f"--piece={size} must divide the rows of {weights_BT.shape[1]} tokens")
    starts = range(0, weights_BT.shape[1], size)
    tokens = np.concatenate([tokens_BS[:, at : at + size + 1] for at in starts])
    return tokens, np.concatenate([weights_BT[:, at : at + size] for at in starts])


def fit(
    model: Llama, recipe: Recipe, params: dict[str, Any], batches: Batches, folder: pathlib.Path, report: Report,
    mesh: Mesh = None,
) -> State:  # fmt: skip
    """Trains to the end of the recipe, from the newest checkpoint in `folder` if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    drop_torn_line(folder / "metrics.jsonl")
    with (
        contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints,
        (folder / "metrics.jsonl").open("a", buffering=1) as log,
    ):
        state = checkpoints.restore(new_state(model, recipe, sharding.put(params, mesh) if mesh else params))
        first, saved = int(state.step), time.time()
        for step in range(first, recipe.steps):
            began, batch = time.time(), batches(step)
            state, metrics = train_step(model, recipe, state, sharding.place_batch(batch, mesh) if mesh else batch)
            numbers = {name: float(x) for name, x in metrics.items()}
            seconds = time.time() - began
            if not np.isfinite(numbers["loss"]):
                raise ValueError(f"{folder.name}: loss {numbers['loss']} at step {step}: lower the learning rate")
            log.write(json.dumps({"step": step, **numbers, "seconds": round(seconds, 4)}) + "\n")
            rate = f"{batch['tokens_BT'].size / seconds:,.0f} tokens/s"
            report((step + 1) / recipe.steps, f"step {step + 1}/{recipe.steps}, loss {numbers['loss']:.3f}, {rate}")
            if time.time() - saved > SAVE_EVERY or step + 1 == recipe.steps:
                checkpoints.save(state)
                saved = time.time()
    return state


def drop_torn_line(path: pathlib.Path) -> None:
    """A run that was killed may have left half a line."""
    if path.exists() and not (said := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(said[: said.rfind(b"\n") + 1])


def seconds_of_training(folder: pathlib.Path) -> float:
    """-> those of all steps, a step that was done again counted once."""
    path = folder / "metrics.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return round(sum({m["step"]: m["seconds"] for m in steps}.values()), 1)


def training_model(cfg: ModelConfig, method: Method, preset: Preset, mesh: Mesh = None) -> Llama:
    keep = None if preset.remat else jax.checkpoint_policies.everything_saveable
    return Llama(cfg, method, train=True, softmax=preset.softmax, place=placement(mesh), keep=keep)


def placement(mesh: Mesh) -> Placement:
    return sharding.OnMesh() if mesh else OneDevice()


def on_mesh(cfg: ModelConfig, rows: int, length: int, mesh: Mesh) -> contextlib.AbstractContextManager:
    """Checks that the work can be split, and makes the mesh current."""
    if mesh is None:
        return contextlib.nullcontext()
    sharding.check(cfg, rows, length, mesh)
    return jax.set_mesh(mesh)


def initial(cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """-> random parameters of the base."""
    one = jnp.zeros((1, 8), jnp.int32)
    return jax.jit(lambda key: Llama(cfg).init(key, one, Tokens.whole(1, 8), 8)["params"])(jax.random.key(seed))


def base_params(space: Workspace, report: Report, mesh: Mesh = None) -> dict[str, Any]:
    """-> parameters of the base: given, or the average at the end of its training."""
    preset, cfg = space.preset, space.preset.model
    if space.base_dir:
        return pretrained.load_params(pathlib.Path(space.base_dir), cfg)
    if preset.base is None:
        raise ValueError("this preset does not pretrain: name a Hugging Face directory with --base_dir")
    rows, recipe, model = space.base_rows(), preset.base, training_model(cfg, Method(), preset, mesh)

    def batches(step):
        return as_batch(*rows(step * recipe.rows, recipe.rows)[:2], model.method, cfg)

    with on_mesh(cfg, recipe.rows, cfg.trained_len, mesh):
        state = fit(model, recipe, initial(cfg, space.seed), batches, space.folder / "base", report, mesh)
    return jax.tree.map(np.asarray, state.params(average=True))


def extend(
    space: Workspace, name: str, method: Method, base: dict[str, Any], report: Report, mesh: Mesh = None
) -> dict[str, Any]:
    """-> the method's parameters: the average at the end of its training."""
    recipe, cfg = space.preset.extend, grown(space.preset.model, method)
    rows, model = space.extend_rows(), training_model(cfg, method, space.preset, mesh)
    own = method.own(jax.random.key(space.seed), cfg)
    params = {**(grow_vocab(base) if method.insert else base), **({"method": own} if own else {})}

    def batches(step):
        return as_batch(*rows(step * recipe.rows, recipe.rows)[:2], method, cfg)

    with on_mesh(cfg, recipe.rows, space.preset.extended, mesh):
        state = fit(model, recipe, params, batches, space.method_folder(name), report, mesh)
    return jax.tree.map(np.asarray, state.params(average=True))


def tasks(space: Workspace) -> list[Task]:
    """The evaluators of the study, on its test split."""
    preset, store = space.preset, space.store()
    keyed = [length for length in preset.lengths if length >= preset.model.trained_len]
    return [
        Perplexity(windows(store, preset.lengths, preset.windows), preset.lengths, most=preset.tokens_a_call),
        Passkey(
            store.stream("test"), Phrases.of(space.tokenizer()), keyed, preset.depths, preset.samples, space.seed,
            preset.tokens_a_call,
        ),
    ]  # fmt: skip


def evaluate(
    space: Workspace, method: Method, params: dict[str, Any], about: dict[str, Any], report: Report, mesh: Mesh = None
) -> None:
    """Puts every task to the model, and keeps the answers in the method's records."""
    records = Records(space.method_folder(about["method"]) / "records.jsonl")
    cfg = grown(space.preset.model, method)
    params = sharding.put(params, mesh) if mesh else jax.device_put(params)
    score = Scorer(Llama(cfg, method, softmax=space.preset.softmax, place=placement(mesh)), params, mesh)
    jobs = records.pending(tasks(space), about)
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        for i, (task, length) in enumerate(jobs):
            records.run(task, length, score, about)
            report((i + 1) / len(jobs), f"{task.name} at {length}")


def run(space: Workspace, name: str, method: Method, report: Report, mesh: Mesh = None) -> None:
    """One method from the base to its records; what was done before is not done again."""
    share = 0.65 if method.trained else 0.0
    params = base_params(space, lambda fraction, doing: report(0.0, f"base {doing}"), mesh)
    if method.trained:
        params = extend(space, name, method, params, lambda fraction, doing: report(share * fraction, doing), mesh)
    about = {
        "method": name, "weights": "ema" if method.trained else "raw", "kind": kind(method),
        "train_seconds": seconds_of_training(space.method_folder(name)),
    }  # fmt: skip
    evaluate(space, method, params, about, lambda fraction, doing: report(share + (1 - share) * fraction, doing), mesh)
    report(1.0, "done")
