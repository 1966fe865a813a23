"""How a model's work is split over devices: the interface, and the trivial case."""

import dataclasses
from typing import Any, Protocol

import jax

from longjax.attention.core import Attention
from longjax.model.cross_entropy import cross_entropy

Weights = dict[str, jax.Array]  # of one layer, by the names in layer_shapes


class Placement(Protocol):
    """How a model's work is split over devices. Hashable by value; see also `longjax.sharding.placement`."""

    act: Any  # sharding of the residual stream

    def attention(self, attention: Attention) -> Attention:
        """Wrap the method's attention."""
        ...

    def weights(self, w: Weights) -> Weights:
        """Gather what one layer's computation needs of its weights."""
        ...

    def unembed(self, w_DV: jax.Array) -> jax.Array:
        """Gather the unembedding as `logits` needs it."""
        ...

    def embed(self, embed_VD: jax.Array, tokens_BT: jax.Array, dtype: Any) -> jax.Array:
        """Return the embeddings x_BTD of tokens in `dtype`."""
        ...

    def cross_entropy(
        self,
        hidden_BTD: jax.Array,
        w_DV: jax.Array,
        bias_V: jax.Array | None,
        target_BT: jax.Array,
        weight_BT: jax.Array,
        vocab_size: int,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the sum of weight * nll, nll_BT and hit_BT, see `llama.token_losses`."""
        ...


@dataclasses.dataclass(frozen=True)
class SingleDevice:
    """The placement on one device: everything stays as it is."""

    act = None

    def attention(self, attention):
        return attention

    def weights(self, w):
        return w

    def unembed(self, w_DV):
        return w_DV

    def embed(self, embed_VD, tokens_BT, dtype):
        return embed_VD[tokens_BT].astype(dtype)

    def cross_entropy(self, hidden_BTD, w_DV, bias_V, target_BT, weight_BT, vocab_size):
        hidden_PD, w_DV = hidden_BTD.reshape(-1, w_DV.shape[0]), w_DV.astype(hidden_BTD.dtype)
        losses: Any = cross_entropy(hidden_PD, w_DV, bias_V, target_BT.ravel(), weight_BT.ravel(), None, vocab_size)
        total, *of_tokens = losses
        return total, *(x.reshape(target_BT.shape) for x in of_tokens)
