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


def fitted(study: StudyConfig, memory: int | None, platform: str) -> tuple[StudyConfig, int]:
    """Returns the study with the fastest rematerialization and micro-batch that fit, and its estimated bytes.

    Args:
      study: whose results do not depend on either.
      memory: of a device in bytes; None: no limit is known, and the least memory is taken.
      platform: see `training_bytes`.

    Raises:
      ValueError: nothing fits.

    """
    smallest = dataclasses.replace(study.extend, micro_batch_size=1)
    if memory is None:
        study = dataclasses.replace(study, extend=smallest, remat="attention")
        return study, training_bytes(study, platform)
    needed = 0
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
