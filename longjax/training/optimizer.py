"""The optimizer of a recipe: AdamW, clipping, learning-rate schedule, and which parameters are treated apart."""

import jax
import optax

from longjax.training import schedules
from longjax.training.recipe import Recipe

Flat = dict[str, jax.Array]  # parameters by path: names joined by "/"


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Returns AdamW after clipping; norms, biases and embeddings do not decay.

    Learned frequencies are clipped separately: their gradient grows with positions, so that with a joint norm the model
    would hardly be trained (we measured 1e5 against 1 at 16K tokens).
    """
    mu_dtype = None if recipe.state_dtype == "bfloat16" else recipe.mu_dtype  # None: that of what it is given
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
    separate = optax.chain(optax.masked(clip, frequency_params), optax.masked(clip, model_params))
    return optax.chain(clip if recipe.joint_clip else separate, adamw, optax.masked(slow, frequency_params))


def learning_rate_schedule(recipe: Recipe) -> schedules.Schedule:
    """Returns the learning rate by the number of applied updates."""
    peak, total, warmup, first = recipe.learning_rate, recipe.steps, recipe.warmup, int(not recipe.warmup_from_zero)
    return {
        "constant": schedules.constant(peak, warmup, first),
        "cosine": schedules.cosine(peak, total, warmup, recipe.min_lr_ratio, first),
        "linear": schedules.linear(peak, total, warmup, first),
        "ds_log": schedules.log_warmup(peak, warmup),
        "ds_log_decay": schedules.log_warmup_decay(peak, total, warmup),
    }[recipe.schedule]


def frequency_params(params: Flat) -> dict[str, bool]:
    """Returns which parameters are learned frequencies: the method's, shared by all layers."""
    return {path: path.startswith("method/") and not path.startswith("method/layers/") for path in params}


def model_params(params: Flat) -> dict[str, bool]:
    """Returns which parameters are not learned frequencies."""
    return {path: not learned for path, learned in frequency_params(params).items()}


def grad_norms(recipe: Recipe, grads: Flat) -> tuple[jax.Array, jax.Array]:
    """Returns the gradient norm that shows spikes, without learned frequencies, and that of all parameters."""
    paths = [path for path, of_model in model_params(grads).items() if of_model or recipe.joint_clip]
    return optax.tree.norm({path: grads[path] for path in paths}), optax.tree.norm(grads)


def weight_decay_mask(params: Flat) -> dict[str, bool]:
    """Returns which parameters decay."""
    return {path: not any(word in path for word in ("norm", "bias", "embed_VD")) for path in params}
