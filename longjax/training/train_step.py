"""One optimisation step, as a pure function of (state, batch). Letters as in llama.py; A micro-batches."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util

from longjax.attention.core import TokenPositions
from longjax.model.llama import Llama, token_losses
from longjax.training import schedules
from longjax.training.position_loss import bucket_edges, by_position
from longjax.training.skip_step import SkipStepState

Flat = dict[str, jax.Array]  # parameters by path, names joined by "/"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the protocol of arXiv:2409.12181, appendix 9.2.

    The EMA decay has no published value; `ema` is ours, for about a thousand steps (0.99 ** 1000 is 4e-5).
    """

    steps: int = 961
    batch_size: int = 32  # sequences an update
    micro_batch_size: int | None = None  # sequences at a time; None: all
    learning_rate: float = 2e-5
    schedule: Literal["constant", "cosine", "linear", "ds_log", "ds_log_decay"] = "constant"  # after the warm-up
    warmup: int = 20
    min_lr_ratio: float = 0.1  # share of the rate left at the end of a cosine
    warmup_from_zero: bool = False  # the first update has rate 0, as Hugging Face's, instead of rate / warmup
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    mu_dtype: Literal["float32", "bfloat16"] = "float32"  # of Adam's first moment
    max_grad_norm: float = 1.0
    frequency_rate: float = 1.0  # of learned frequencies (CLEX), as a share of the others' rate
    joint_clip: bool = False  # clip learned frequencies together with the rest, as published scripts do; see optimizer
    ema_decay: float = 0.99  # 0: no average is kept
    spike_sigmas: float = 0.0  # steps so far above the recent mean are left out; 0: only those that are no number
    state_dtype: Literal["float32", "bfloat16"] = "float32"  # of trained weights and moments
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"  # of weights that are not trained
    seed: int = 0  # of data order, new weights and CLEX's factors


class TrainState(struct.PyTreeNode):
    """`trained` has moments and an average, which is float32; `frozen` has neither."""

    step: jax.Array
    trained: Flat
    frozen: Flat
    ema: Flat  # empty if the recipe keeps none
    opt_state: optax.OptState
    skip_step: SkipStepState

    def params(self, average: bool = False) -> dict[str, Any]:
        """-> the parameter tree, of the raw weights or of their average if there is one."""
        chosen = self.ema if average and self.ema else self.trained
        return traverse_util.unflatten_dict(chosen | self.frozen, sep="/")


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW after clipping; norms and biases do not decay.

    Learned frequencies are clipped apart: their gradient grows with positions, so that one norm for all would leave the
    model nothing (we measured 1e5 against 1 at 16K tokens).
    """
    mu_dtype = "bfloat16" if recipe.state_dtype == "bfloat16" else recipe.mu_dtype
    adamw = optax.adamw(
        learning_rate_schedule(recipe),
        b1=recipe.b1,
        b2=recipe.b2,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        mask=weight_decay_mask,
        mu_dtype=mu_dtype,
    )
    clip, slow = optax.clip_by_global_norm(recipe.max_grad_norm), optax.scale(recipe.frequency_rate)
    apart = optax.chain(optax.masked(clip, frequency_params), optax.masked(clip, model_params))
    return optax.chain(clip if recipe.joint_clip else apart, adamw, optax.masked(slow, frequency_params))


def learning_rate_schedule(recipe: Recipe) -> schedules.Schedule:
    peak, total, warmup, first = recipe.learning_rate, recipe.steps, recipe.warmup, int(not recipe.warmup_from_zero)
    return {
        "constant": schedules.constant(peak, warmup, first),
        "cosine": schedules.cosine(peak, total, warmup, recipe.min_lr_ratio, first),
        "linear": schedules.linear(peak, total, warmup, first),
        "ds_log": schedules.log_warmup(peak, warmup),
        "ds_log_decay": schedules.log_warmup_decay(peak, total, warmup),
    }[recipe.schedule]


def frequency_params(params: Flat) -> dict[str, bool]:
    """-> which of them are of the method and shared by all layers."""
    return {path: path.startswith("method/") and not path.startswith("method/layers/") for path in params}


def model_params(params: Flat) -> dict[str, bool]:
    return {path: not learned for path, learned in frequency_params(params).items()}


def grad_norms(recipe: Recipe, grads: Flat) -> tuple[jax.Array, jax.Array]:
    """-> the gradient's norm in which a spike would show, and that of all parameters."""
    steep = optax.tree.norm(grads)
    mine = [path for path, other in model_params(grads).items() if other or recipe.joint_clip]
    return optax.tree.norm({path: grads[path] for path in mine}), steep


def weight_decay_mask(params: Flat) -> dict[str, bool]:
    return {path: not any(word in path for word in ("norm", "bias", "embed_VD")) for path in params}


@partial(jax.jit, static_argnums=(0, 1))
def init_train_state(model: Llama, recipe: Recipe, params: dict[str, Any]) -> TrainState:
    """Before the first step. Raises ValueError if nothing is trainable."""
    flat: Flat = dict(traverse_util.flatten_dict(params, sep="/"))  # pyright: ignore[reportAssignmentType]
    trained = {path: x.astype(recipe.state_dtype) for path, x in flat.items() if model.method.trainable(path)}
    if not trained:
        raise ValueError("the method trains no parameter: it is applied as it is")
    frozen = {path: x.astype(recipe.frozen_dtype) for path, x in flat.items() if path not in trained}
    ema = jax.tree.map(lambda x: jnp.array(x, jnp.float32), trained) if recipe.ema_decay else {}
    return TrainState(jnp.int32(0), trained, frozen, ema, optimizer(recipe).init(trained), SkipStepState.new())


class LossSums(struct.PyTreeNode):
    """Weighted sums of -log p(target), and of the weights, in all and by position."""

    loss: jax.Array
    loss_P: jax.Array
    weight_P: jax.Array  # P as in buckets.py

    @classmethod
    def zero(cls, buckets: int) -> "LossSums":
        return cls(jnp.float32(0), jnp.zeros(buckets, jnp.float32), jnp.zeros(buckets, jnp.float32))


def loss_sums(model: Llama, params: dict[str, Any], hidden_BTD: jax.Array, batch: dict[str, jax.Array]) -> LossSums:
    weight_BT = batch["weights_BT"]
    loss, nll_BT, _ = token_losses(model.placement, params, hidden_BTD, batch["targets_BT"], weight_BT)
    return LossSums(loss, *by_position(nll_BT, weight_BT, batch["index_BT"], bucket_edges(hidden_BTD.shape[1])))


def gradients(model: Llama, state: TrainState, batch: dict[str, jax.Array], key: jax.Array) -> tuple[LossSums, Flat]:
    """-> the sums of one micro-batch, and the gradient of its loss."""

    def loss(trained):
        params = state.replace(trained=trained).params()
        T = batch["tokens_BT"].shape[1]
        start_BT = batch.get("start_BT")  # of documents that do not see each other
        where = (
            TokenPositions.whole(*batch["tokens_BT"].shape) if start_BT is None else TokenPositions.documents(start_BT)
        )
        hidden_BTD, _ = model.apply({"params": params}, batch["tokens_BT"], where, T, key=key)
        sums = loss_sums(model, params, hidden_BTD, batch)
        return sums.loss, sums

    (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(state.trained)
    return sums, grads


def accumulate_gradients(
    model: Llama, state: TrainState, batch: dict[str, jax.Array], key: jax.Array, count: int
) -> tuple[LossSums, Flat]:
    """-> sums and gradient of the whole batch, `count` parts one after the other."""
    if count == 1:
        return gradients(model, state, batch, key)

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, as_float32(gradients(model, state, *part))), None

    sums, grads = (
        LossSums.zero(len(bucket_edges(batch["tokens_BT"].shape[1])) - 1),
        jax.tree.map(jnp.zeros_like, state.trained),
    )
    parts = {name: split_micro_batches(x, count) for name, x in batch.items()}
    return jax.lax.scan(add, (sums, as_float32(grads)), (parts, jax.random.split(key, count)))[0]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_step(
    model: Llama, recipe: Recipe, state: TrainState, batch: dict[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update. The loss is the mean over all weighted tokens of the global batch, whatever the micro-batches.

    A step that `guard` does not allow changes nothing but the step number and the guard's own memory.

    Args:
      model: with train=True.
      recipe: static.
      state: donated.
      batch: tokens_BT, targets_BT, index_BT (int32), weights_BT (float32), and start_BT for packed documents.

    """
    rows = batch["tokens_BT"].shape[0]
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    micro = recipe.micro_batch_size or rows
    if rows % micro:
        raise ValueError(f"--micro_rows={micro} must divide the {rows} sequences of an update")
    sums, grads = accumulate_gradients(model, state, batch, key, rows // micro)
    weight = batch["weights_BT"].sum()
    loss, grads = sums.loss / weight, jax.tree.map(lambda g: g / weight, as_float32(grads))
    norm, steep = grad_norms(recipe, grads)
    taken = state.skip_step.should_apply(loss, norm, recipe.spike_sigmas) & jnp.isfinite(steep)
    moved = apply_update(recipe, state, grads)
    before = (state.trained, state.opt_state, state.ema)
    trained, opt, ema = jax.tree.map(partial(jnp.where, taken), moved, before)
    guard = state.skip_step.after(taken, state.step, loss, norm)
    metrics = {
        "loss": loss, "weight": weight, "grad_norm": steep, "skipped": guard.skipped, "streak": guard.consecutive_skips,
        "learning_rate": learning_rate_schedule(recipe)(state.step - state.skip_step.skipped),
        "loss_P": sums.loss_P, "weight_P": sums.weight_P,
    }  # fmt: skip
    return state.replace(step=state.step + 1, trained=trained, ema=ema, opt_state=opt, skip_step=guard), metrics


def apply_update(recipe: Recipe, state: TrainState, grads: Flat) -> tuple[Any, optax.OptState, Any]:
    """-> weights, optimiser state and average after one step, which is computed in float32 however they are kept."""
    trained, opt, grads = as_float32((state.trained, state.opt_state, grads))
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to its int32 step count
        updates, opt = optimizer(recipe).update(grads, opt, trained)
    trained = optax.apply_updates(trained, updates)
    ema = optax.incremental_update(trained, state.ema, 1 - recipe.ema_decay) if state.ema else {}
    return *jax.tree.map(lambda x, old: x.astype(old.dtype), (trained, opt), (state.trained, state.opt_state)), ema


def as_float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def split_micro_batches(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] -> [count, B / count, ...], strided, so that a split of B stays one."""
    spec, mesh = jax.typeof(x).sharding.spec, jax.typeof(x).sharding.mesh
    split = None if mesh.empty else jax.P(spec[0], None, *spec[1:])
    return jnp.moveaxis(jnp.reshape(x, (-1, count, *x.shape[1:]), out_sharding=split), 1, 0)
