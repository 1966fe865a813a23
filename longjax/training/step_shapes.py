"""The shapes of a training step's parameters and batch, of which no array is made."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.core import TokenPositions
from longjax.data import RowBatch
from longjax.model.llama import Llama
from longjax.training.batch import as_batch


def param_shapes(model: Llama) -> Any:
    """Returns the shapes of a model's parameters, the method's own included."""

    def init():
        tokens_BT = jnp.zeros((1, 8), jnp.int32)
        positions = TokenPositions.whole(1, 8)
        return Llama(model.cfg, model.method).init(jax.random.key(0), tokens_BT, positions, 8)["params"]

    return jax.eval_shape(init)


def batch_shapes(model: Llama, rows: int, length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a step's batch, split into the method's rows and with its inserted tokens."""
    row_batch = RowBatch(np.zeros((rows, length + 1), np.int32), np.ones((rows, length), np.float32), None)
    arrays = as_batch(row_batch, model.method, model.cfg)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
