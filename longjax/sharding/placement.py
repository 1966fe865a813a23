"""The placement of a model on the current mesh (jax.set_mesh)."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import P

from longjax.attention.core import Attention
from longjax.model.cross_entropy import cross_entropy
from longjax.sharding.context_parallel import ContextParallel
from longjax.sharding.fsdp import embedding_lookup, gather
from longjax.sharding.partition import BATCH, FSDP

ACT_BTD = P(BATCH, "seq", None)


@dataclasses.dataclass(frozen=True)
class MeshPlacement:
    """The placement of a model on the current mesh (jax.set_mesh)."""

    act = ACT_BTD

    def attention(self, attention: Attention) -> Attention:
        return ContextParallel(attention)

    def weights(self, w: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """One layer from stored to compute form: whole along FSDP, still split along model."""
        return {name: jax.reshard(x, gather_weights(x)) for name, x in w.items()}

    def unembed(self, w_DV: jax.Array) -> jax.Array:
        return jax.reshard(w_DV, gather_weights(w_DV))

    def embed(self, embed_VD: jax.Array, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Every device looks up its own tokens in the whole table."""
        spec, tokens = jax.typeof(embed_VD).sharding.spec, P(*self.act[:2])
        piece = partial(embedding_lookup, spec, dtype)
        return jax.shard_map(piece, in_specs=(spec, tokens), out_specs=self.act, check_vma=False)(
            embed_VD, jax.reshard(tokens_BT, tokens)
        )

    def cross_entropy(
        self, hidden_BTD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_BT: jax.Array,
        weight_BT: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
        """Every device does its own tokens, with one gathering of the unembedding for all of them."""
        spec, tokens = jax.typeof(w_DV).sharding.spec, P(*self.act[:2])
        split = "model" if spec[1] else None

        def piece(hidden_BTD, w_DV, bias_V, *of_tokens):
            hidden_PD, flat = hidden_BTD.reshape(-1, hidden_BTD.shape[2]), [x.reshape(-1) for x in of_tokens]
            whole_DV: Any = gather(w_DV, P(spec[0], None), hidden_BTD.dtype)
            found: Any = cross_entropy(hidden_PD, whole_DV, bias_V, *flat, split)
            total, nll_P, hit_P = found
            spread = tuple(axis for axes in tokens if axes for axis in ((axes,) if isinstance(axes, str) else axes))
            return jax.lax.psum(total, spread), *(x.reshape(of_tokens[0].shape) for x in (nll_P, hit_P))

        in_specs = (self.act, spec, None if bias_V is None else P(split), tokens, tokens)
        run = jax.shard_map(piece, in_specs=in_specs, out_specs=(P(), tokens, tokens), check_vma=False)
        return run(hidden_BTD, w_DV, bias_V, target_BT, weight_BT)


def gather_weights(x: jax.Array) -> P:
    return P(*(None if axis == FSDP else axis for axis in jax.typeof(x).sharding.spec))
