"""The model's placement on a mesh: how weights are gathered, tokens embedded and losses computed."""

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
    """The placement of a model in training, on the current mesh (jax.set_mesh)."""

    act = ACT_BTD

    def attention(self, attention: Attention) -> Attention:
        return ContextParallel(attention)

    def weights(self, w: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns one layer's weights gathered for use: whole along FSDP, still split along "model"."""
        return {name: jax.reshard(x, gathered_spec(x)) for name, x in w.items()}

    def unembed(self, w_DV: jax.Array) -> jax.Array:
        """Returns the unembedding gathered for use, still split along "model"."""
        return jax.reshard(w_DV, gathered_spec(w_DV))

    def embed(self, embed_VD: jax.Array, tokens_BT: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Returns x_BTD; every device looks up its own tokens in the gathered table."""
        spec, tokens = jax.typeof(embed_VD).sharding.spec, P(*self.act[:2])
        lookup = partial(embedding_lookup, spec, dtype)
        return jax.shard_map(lookup, in_specs=(spec, tokens), out_specs=self.act, check_vma=False)(
            embed_VD, jax.reshard(tokens_BT, tokens)
        )

    def cross_entropy(
        self, hidden_BTD: jax.Array, w_DV: jax.Array, bias_V: jax.Array | None, target_BT: jax.Array,
        weight_BT: jax.Array, vocab_size: int,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
        """Returns the summed loss, nll_BT and hit_BT as `cross_entropy`; every device computes those of its tokens."""
        spec, tokens = jax.typeof(w_DV).sharding.spec, P(*self.act[:2])
        split = "model" if spec[1] else None

        def on_device(hidden_BTD, w_DV, bias_V, *by_token):
            hidden_PD, flat = hidden_BTD.reshape(-1, hidden_BTD.shape[2]), [x.reshape(-1) for x in by_token]
            whole_DV: Any = gather(w_DV, P(spec[0], None), hidden_BTD.dtype)
            losses: Any = cross_entropy(hidden_PD, whole_DV, bias_V, *flat, split, vocab_size)
            total, nll_P, hit_P = losses
            token_axes = tuple(axis for axes in tokens if axes for axis in ((axes,) if isinstance(axes, str) else axes))
            return jax.lax.psum(total, token_axes), *(x.reshape(by_token[0].shape) for x in (nll_P, hit_P))

        in_specs = (self.act, spec, None if bias_V is None else P(split), tokens, tokens)
        run = jax.shard_map(on_device, in_specs=in_specs, out_specs=(P(), tokens, tokens), check_vma=False)
        return run(hidden_BTD, w_DV, bias_V, target_BT, weight_BT)


def gathered_spec(x: jax.Array) -> P:
    """Returns the layout of a stored weight in use: whole along FSDP."""
    return P(*(None if axis == FSDP else axis for axis in jax.typeof(x).sharding.spec))
