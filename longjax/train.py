"""One optimisation step, as a pure function of (state, batch). Letters as in llama.py; A micro-batches."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util

from longjax.attention import Tokens
from longjax.llama import Llama, logits

Flat = dict[str, jax.Array]  # parameters by path, names joined by "/"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the protocol of arXiv:2409.12181, appendix 9.2.

    The EMA decay has no published value; `ema` is ours, for about a thousand steps (0.99 ** 1000 is 4e-5).
    """

    steps: int = 961
    rows: int = 32  # sequences an update
    micro_rows: int | None = None  # sequences at a time; None: all
    learning_rate: float = 2e-5
    warmup: int = 20
    decay_to: float = 1.0  # share of the rate left at the end, by a cosine; 1: constant
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    clip: float = 1.0
    ema: float = 0.99
    seed: int = 0


class State(struct.PyTreeNode):
    """`trained` has moments and an average; `frozen` has neither. Everything is float32."""

    step: jax.Array
    trained: Flat
    frozen: Flat
    ema: Flat
    opt: optax.OptState

    def params(self, average: bool = False) -> dict[str, Any]:
        """-> the parameter tree, of the raw weights or of their average."""
        return traverse_util.unflatten_dict((self.ema if average else self.trained) | self.frozen, sep="/")


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW after clipping; norms and biases do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.adamw(
            schedule(recipe), b1=recipe.b1, b2=recipe.b2, weight_decay=recipe.weight_decay, mask=decays,
            mu_dtype=jnp.float32,
        ),
    )  # fmt: skip


def schedule(recipe: Recipe) -> optax.Schedule:
    """Linear warm-up, then a cosine down to `decay_to` of the rate. The first update already moves."""
    peak, last = recipe.learning_rate, max(recipe.steps - recipe.warmup, 1)
    warm = optax.linear_schedule(peak / max(recipe.warmup, 1), peak, max(recipe.warmup - 1, 1))
    return optax.join_schedules([warm, optax.cosine_decay_schedule(peak, last, recipe.decay_to)], [recipe.warmup])


def decays(params: Flat) -> dict[str, bool]:
    return {path: not any(word in path for word in ("norm", "bias", "embed_VD")) for path in params}


def new_state(model: Llama, recipe: Recipe, params: dict[str, Any]) -> State:
    """Before the first step. Raises ValueError if nothing is trainable."""
    flat: Flat = dict(traverse_util.flatten_dict(params, sep="/"))  # pyright: ignore[reportAssignmentType]
    trained = {path: x for path, x in flat.items() if model.method.trainable(path)}
    if not trained:
        raise ValueError("the method trains no parameter: it is applied as it is")
    frozen = {path: x for path, x in flat.items() if path not in trained}
    ema = jax.tree.map(jnp.copy, trained)
    return State(jnp.int32(0), trained, frozen, ema, optimizer(recipe).init(trained))


def pick(x_BTV: jax.Array, index_BT: jax.Array) -> jax.Array:
    """-> x[b, t, index[b, t]], without a gather, so that V may be split over devices."""
    hit_BTV = index_BT[:, :, None] == jnp.arange(x_BTV.shape[-1])
    return jnp.where(hit_BTV, x_BTV, 0).sum(-1)


def by_slices(x: jax.Array, slices: int) -> jax.Array:
    """[B, T, ...] -> [slices, B, T / slices, ...]: every so-manieth token, so that a split of T stays one."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, slices, *x.shape[2:]), 2, 0)


def loss_sum(model: Llama, params: dict[str, Any], hidden_BTD: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Weighted sum of -log p(target). The logits of a slice of tokens at a time, made again for the backward pass."""
    T, V = hidden_BTD.shape[1], model.cfg.vocab
    slices = next(n for n in range(max(1, -(-T * V // 2**24)), T + 1) if T % n == 0)  # at most 2^24 logits a row

    @jax.checkpoint
    def add(total, slab):
        hidden_BTD, target_BT, weight_BT = slab
        x_BTV = logits(params, hidden_BTD, model.place)
        nll_BT = jax.nn.logsumexp(x_BTV, axis=-1) - pick(x_BTV, target_BT)
        return total + (nll_BT * weight_BT).sum(), None

    slabs = tuple(by_slices(x, slices) for x in (hidden_BTD, batch["targets_BT"], batch["weights_BT"]))
    return jax.lax.scan(add, jnp.float32(0), slabs)[0]


def gradients(model: Llama, state: State, batch: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, Flat]:
    """-> weighted loss sum of one micro-batch, and its gradient."""

    def loss(trained):
        params = state.replace(trained=trained).params()
        T = batch["tokens_BT"].shape[1]
        where = Tokens.at(batch["index_BT"], batch.get("start_BT"))
        hidden_BTD, _ = model.apply({"params": params}, batch["tokens_BT"], where, T, key=key)
        return loss_sum(model, params, hidden_BTD, batch)

    return jax.value_and_grad(loss)(state.trained)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_step(
    model: Llama, recipe: Recipe, state: State, batch: dict[str, jax.Array]
) -> tuple[State, dict[str, jax.Array]]:
    """One update. The loss is the mean over all weighted tokens of the global batch, whatever the micro-batches.

    Args:
      model: with train=True.
      recipe: static.
      state: donated.
      batch: tokens_BT, targets_BT, index_BT (int32), weights_BT (float32), and start_BT for packed documents.

    """
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    rows = batch["tokens_BT"].shape[0]
    count = rows // (recipe.micro_rows or rows)
    if count == 1:
        total, grads = gradients(model, state, batch, key)
    else:
        micro = {name: by_micro(x, count) for name, x in batch.items()}

        def accumulate(sums, micro):
            return jax.tree.map(jnp.add, sums, gradients(model, state, *micro)), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, state.trained))
        (total, grads), _ = jax.lax.scan(accumulate, zero, (micro, jax.random.split(key, count)))
    tokens = batch["weights_BT"].sum()
    grads = jax.tree.map(lambda g: g / tokens, grads)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to its int32 step count
        updates, opt = optimizer(recipe).update(grads, state.opt, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    ema = optax.incremental_update(trained, state.ema, 1 - recipe.ema)
    metrics = {"loss": total / tokens, "tokens": tokens, "grad_norm": optax.global_norm(grads)}
    return state.replace(step=state.step + 1, trained=trained, ema=ema, opt=opt), metrics


def by_micro(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] -> [count, B / count, ...], strided, so that a split of B stays one."""
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)
