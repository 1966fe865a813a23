"""One training step, as a pure function of (state, batch). Letters as in model/llama.py; A micro-batches."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util

from longjax.attention.core import TokenPositions
from longjax.model.llama import Llama, token_losses
from longjax.training.optimizer import Flat, grad_norms, learning_rate_schedule, optimizer
from longjax.training.position_loss import bucket_edges, bucket_sums
from longjax.training.recipe import Recipe
from longjax.training.rounding import join_float32, round_stochastically, split_float32
from longjax.training.skip_step import SkipStepState


class TrainState(struct.PyTreeNode):
    """The state of training.

    Attributes:
      step: steps done, skipped ones included.
      trained: trained parameters by path; only these have moments and an average.
      missing_bits: of each trained parameter, what its bfloat16 lacks of float32; empty if `trained` is in float32.
      frozen: all other parameters by path.
      ema: average of the trained parameters, in float32; empty if the recipe has none.
      opt_state: of `optimizer`.
      skip_step: statistics of recent steps.

    """

    step: jax.Array
    trained: Flat
    missing_bits: Flat
    frozen: Flat
    ema: Flat
    opt_state: optax.OptState
    skip_step: SkipStepState

    def params(self, average: bool = False) -> dict[str, Any]:
        """Returns the tree of parameters, with the average of the trained ones if asked for and there is one."""
        trained = self.ema if average and self.ema else self.trained
        return traverse_util.unflatten_dict(trained | self.frozen, sep="/")

    def master_weights(self) -> Flat:
        """Returns the trained parameters in float32, as updates add up in them."""
        if not self.missing_bits:
            return as_float32(self.trained)
        return {path: join_float32(x, self.missing_bits[path]) for path, x in self.trained.items()}


@partial(jax.jit, static_argnums=(0, 1))
def init_train_state(model: Llama, recipe: Recipe, params: dict[str, Any]) -> TrainState:
    """Returns the state before the first step. Raises ValueError if the method trains no parameter."""
    flat: Flat = dict(traverse_util.flatten_dict(params, sep="/"))  # pyright: ignore[reportAssignmentType]
    master = {path: x.astype(jnp.float32) for path, x in flat.items() if model.method.trainable(path)}
    if not master:
        raise ValueError("the method trains no parameter: evaluate it without training")
    frozen = {path: x.astype(recipe.frozen_dtype) for path, x in flat.items() if path not in master}
    trained, missing_bits = stored_weights(recipe, master)
    ema = jax.tree.map(jnp.array, master) if recipe.ema_decay else {}
    opt_state = optimizer(recipe).init(trained)
    return TrainState(jnp.int32(0), trained, missing_bits, frozen, ema, opt_state, SkipStepState.new())


def stored_weights(recipe: Recipe, master: Flat) -> tuple[Flat, Flat]:
    """Returns float32 weights as a state keeps them: `trained` and `missing_bits`; together they are exact."""
    if recipe.state_dtype == "float32":
        return master, {}
    halves = {path: split_float32(x) for path, x in master.items()}
    return {path: x for path, (x, _) in halves.items()}, {path: x for path, (_, x) in halves.items()}


class LossSums(struct.PyTreeNode):
    """Weighted sums of -log p(target), and of the weights, in all and by position."""

    loss: jax.Array
    loss_P: jax.Array
    weight_P: jax.Array  # P as in position_loss.py

    @classmethod
    def zero(cls, buckets: int) -> "LossSums":
        """Returns sums of nothing."""
        return cls(jnp.float32(0), jnp.zeros(buckets, jnp.float32), jnp.zeros(buckets, jnp.float32))


def loss_sums(model: Llama, params: dict[str, Any], hidden_BTD: jax.Array, batch: dict[str, jax.Array]) -> LossSums:
    """Returns the loss sums of a micro-batch from its last hidden states."""
    weight_BT = batch["weights_BT"]
    loss, nll_BT, _ = token_losses(model.placement, params, hidden_BTD, batch["targets_BT"], weight_BT)
    return LossSums(loss, *bucket_sums(nll_BT, weight_BT, batch["index_BT"], bucket_edges(hidden_BTD.shape[1])))


def gradients(model: Llama, state: TrainState, batch: dict[str, jax.Array], key: jax.Array) -> tuple[LossSums, Flat]:
    """Returns the loss sums of one micro-batch, and the gradient of its summed loss."""

    def loss(trained):
        params = state.replace(trained=trained).params()
        T = batch["tokens_BT"].shape[1]
        if (start_BT := batch.get("start_BT")) is None:
            positions = TokenPositions.whole(*batch["tokens_BT"].shape)
        else:
            positions = TokenPositions.documents(start_BT)  # which do not attend to each other
        hidden_BTD, _ = model.apply({"params": params}, batch["tokens_BT"], positions, T, key=key)
        sums = loss_sums(model, params, hidden_BTD, batch)
        return sums.loss, sums

    (_, sums), grads = jax.value_and_grad(loss, has_aux=True)(state.trained)
    return sums, grads


def accumulate_gradients(
    model: Llama, state: TrainState, batch: dict[str, jax.Array], key: jax.Array, count: int
) -> tuple[LossSums, Flat]:
    """Returns the loss sums and the gradient of a batch, computed in `count` micro-batches one after the other."""
    if count == 1:
        return gradients(model, state, batch, key)

    def add(sums, micro_batch_and_key):
        return jax.tree.map(jnp.add, sums, as_float32(gradients(model, state, *micro_batch_and_key))), None

    sums = LossSums.zero(len(bucket_edges(batch["tokens_BT"].shape[1])) - 1)
    grads = as_float32(jax.tree.map(jnp.zeros_like, state.trained))
    micro_batches = {name: split_micro_batches(x, count) for name, x in batch.items()}
    return jax.lax.scan(add, (sums, grads), (micro_batches, jax.random.split(key, count)))[0]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_step(
    model: Llama, recipe: Recipe, state: TrainState, batch: dict[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after one update, and metrics.

    The loss is the mean over all weighted tokens of the global batch, whatever the micro-batches. A skipped step
    changes only the step number and `skip_step`.

    Args:
      model: with train=True.
      recipe: static.
      state: its buffers are donated.
      batch: tokens_BT, targets_BT, index_BT (int32), weights_BT (float32), and start_BT for packed documents.

    """
    rows = batch["tokens_BT"].shape[0]
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    micro = recipe.micro_batch_size or rows
    if rows % micro:
        raise ValueError(f"--micro_batch_size={micro} must divide the {rows} rows of an update")
    sums, grads = accumulate_gradients(model, state, batch, key, rows // micro)
    weight = batch["weights_BT"].sum()
    loss, grads = sums.loss / weight, jax.tree.map(lambda g: g / weight, as_float32(grads))
    norm, full_norm = grad_norms(recipe, grads)
    applied = state.skip_step.should_apply(loss, norm, recipe.spike_sigmas) & jnp.isfinite(full_norm)
    updated = apply_update(recipe, state, grads)
    before = (state.trained, state.missing_bits, state.opt_state, state.ema)
    trained, missing_bits, opt_state, ema = jax.tree.map(partial(jnp.where, applied), updated, before)
    skips = state.skip_step.after(applied, state.step, loss, norm)
    metrics = {
        "loss": loss, "weight": weight, "grad_norm": full_norm,
        "skipped": skips.skipped, "consecutive_skips": skips.consecutive_skips,
        "learning_rate": learning_rate_schedule(recipe)(state.step - state.skip_step.skipped),
        "loss_P": sums.loss_P, "weight_P": sums.weight_P,
    }  # fmt: skip
    after = TrainState(state.step + 1, trained, missing_bits, state.frozen, ema, opt_state, skips)
    return after, metrics


def apply_update(recipe: Recipe, state: TrainState, grads: Flat) -> tuple[Flat, Flat, optax.OptState, Any]:
    """Returns trained weights, missing bits, optimizer state and average after an update, computed in float32."""
    master, opt_state, grads = state.master_weights(), as_float32(state.opt_state), as_float32(grads)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to its int32 step count
        updates, opt_state = optimizer(recipe).update(grads, opt_state, master)
    after: Any = optax.apply_updates(master, updates)
    ema = optax.incremental_update(after, state.ema, 1 - recipe.ema_decay) if state.ema else {}
    trained, missing_bits = stored_weights(recipe, after)
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    return trained, missing_bits, round_like(opt_state, state.opt_state, key), ema


def round_like(tree: Any, like: Any, key: jax.Array) -> Any:
    """Returns the tree with its float32 arrays rounded at random to bfloat16 where those of `like` are in bfloat16."""
    leaves, structure = jax.tree.flatten(tree)
    types = [x.dtype for x in jax.tree.leaves(like)]
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        x if x.dtype == dtype else round_stochastically(x, k) for x, dtype, k in zip(leaves, types, keys, strict=True)
    )


def as_float32(tree: Any) -> Any:
    """Returns the tree with its floating-point arrays in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def split_micro_batches(x: jax.Array, count: int) -> jax.Array:
    """Returns [B, ...] as [count, B / count, ...]; strided, so that the layout of B over devices stays."""
    spec, mesh = jax.typeof(x).sharding.spec, jax.typeof(x).sharding.mesh
    split = None if mesh.empty else jax.P(spec[0], None, *spec[1:])
    return jnp.moveaxis(jnp.reshape(x, (-1, count, *x.shape[1:]), out_sharding=split), 1, 0)
