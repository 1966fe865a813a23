"""The memory of a study's training step, by tracing it with shapes alone; and what of it fits a device."""

import dataclasses

import jax

from longjax.attention.backends import default_backend
from longjax.model.llama import Llama
from longjax.study.config import StudyConfig
from longjax.training import memory_estimate
from longjax.training.remat import REMAT, Remat
from longjax.training.step_shapes import batch_shapes, param_shapes
from longjax.training.train_step import init_train_state, train_step

REMATS: tuple[Remat, ...] = ("qkv", "attention", "full")  # the fastest first
ROOM = 0.85  # share of the memory that an estimate may take
CACHE_ROOM = 0.25  # share of the memory for the KV cache of a batch of the tests
MOST_BATCH_TOKENS = 262_144  # beyond which a batch is no faster


def training_bytes(study: StudyConfig, platform: str) -> int:
    """Returns the estimated bytes of a training step of full attention: about those of every exact method.

    Args:
      study: with its recipe, row length and rematerialization.
      platform: whose attention kernels are assumed, "gpu", "tpu" or "cpu".

    """
    cfg, recipe = study.model, study.extend
    backend = study.attention or default_backend(platform)
    model = Llama(cfg, train=True, backend=backend, remat_policy=REMAT[study.remat])
    state = jax.eval_shape(lambda params: init_train_state(model, recipe, params), param_shapes(model))
    batch = batch_shapes(model, recipe.batch_size, study.extended)
    return sum(memory_estimate.estimate(train_step.trace(model, recipe, state, batch), state, batch))


def eval_batch_tokens(study: StudyConfig, memory: int) -> int:
    """Returns the tokens of a batch of the tests whose KV cache takes a quarter of the memory: a power of two.

    Answers are then decoded for as many prompts at a time as there is room for.
    """
    cfg = study.model
    cache = 2 * cfg.layers * cfg.kv_heads * cfg.head_dim * jax.numpy.dtype(cfg.dtype).itemsize  # bytes of a token
    tokens = 1 << (max(1, int(CACHE_ROOM * memory / cache)).bit_length() - 1)
    return min(MOST_BATCH_TOKENS, max(StudyConfig.batch_tokens, tokens))


def fitted(study: StudyConfig, memory: int | None, platform: str) -> tuple[StudyConfig, int]:
    """Returns the study with the fastest rematerialization and the batches that fit, and the estimated bytes of a step.

    Args:
      study: whose results do not depend on these.
      memory: of a device in bytes, or a worker's share; None: no limit is known, and the least memory is taken.
      platform: see `training_bytes`.

    Raises:
      ValueError: nothing fits.

    """
    smallest = dataclasses.replace(study.extend, micro_batch_size=1)
    if memory is None:
        study = dataclasses.replace(study, extend=smallest, remat="attention")
        return study, training_bytes(study, platform)
    study, needed = dataclasses.replace(study, batch_tokens=eval_batch_tokens(study, memory)), 0
    for remat in REMATS:
        for rows in [n for n in range(study.extend.batch_size, 0, -1) if study.extend.batch_size % n == 0]:
            recipe = dataclasses.replace(study.extend, micro_batch_size=rows)
            candidate = dataclasses.replace(study, extend=recipe, remat=remat)
            if (needed := training_bytes(candidate, platform)) <= ROOM * memory:
                return candidate, needed
    raise ValueError(
        f"a row of --extended={study.extended} tokens needs {needed / 2**30:.0f} GiB of a device's "
        f"{memory / 2**30:.0f}: take --state_dtype=bfloat16 or --ema_decay=0, or train by longjax-train on a mesh"
    )
