"""The interface of context-extension methods: what a method may change about a LLaMA."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.branched import BranchedAttention
from longjax.attention.core import Attention
from longjax.attention.rope import Rope, inv_freq
from longjax.config import ModelConfig
from longjax.methods.identity import Identity, identified


class RopeFn(Protocol):
    """RoPE frequencies of a method for sequences of one length."""

    def __call__(self, cfg: ModelConfig, length: int, method_params: dict[str, Any], key: jax.Array | None) -> Rope:
        """Returns the frequencies and how cosine, sine and queries are scaled.

        Args:
          cfg: the model.
          length: tokens of the whole sequence, prompt and continuation.
          method_params: the method's parameters.
          key: of this training step's random choices (CLEX); None except in training.

        """
        ...


class AttentionFn(Protocol):
    """Attention of a method for sequences of one length. Implementations are frozen dataclasses or functions."""

    def __call__(self, cfg: ModelConfig, length: int) -> Attention:
        """Returns the attention for whole sequences (prompt and continuation) of `length` tokens."""
        ...


class AdaptWeights(Protocol):
    """The weights of a layer as the method uses them (LoRA)."""

    def __call__(self, w: dict[str, jax.Array], method_params: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns one layer's weights, made of the stored ones and of the method's parameters of that layer."""
        ...


class InsertTokens(Protocol):
    """Tokens that the method inserts into every sequence (landmarks), on the host."""

    def __call__(self, tokens_BT: np.ndarray, token: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (tokens_BS, real_BS): the longer rows, and which of their tokens were there before.

        Args:
          tokens_BT: token ids.
          token: id of the token that is inserted.

        """
        ...

    def is_inserted(self, index: Any) -> Any:
        """Returns whether the token at this index of the longer row is an inserted one, also while generating."""
        ...


def fixed_rope(inv_freq_R: np.ndarray, scale: float = 1.0, query_scale: float = 1.0) -> Rope:
    """Returns a Rope of frequencies that were computed on the host in float64; they are rounded once, to float32.

    Args:
      inv_freq_R: radians a token, of each rotary pair.
      scale: multiplies cosine and sine of queries and keys.
      query_scale: multiplies queries.

    """
    return Rope(jnp.asarray(inv_freq_R, jnp.float32), scale, query_scale)


def plain_rope(cfg: ModelConfig, length: int, method_params: dict[str, Any], key: jax.Array | None) -> Rope:
    """Returns the frequencies of the base model: a `RopeFn`."""
    return fixed_rope(inv_freq(cfg))


def full_attention(cfg: ModelConfig, length: int) -> Attention:
    """Returns causal attention to all keys at their positions: an `AttentionFn`."""
    return BranchedAttention()


def no_params(key: jax.Array, cfg: ModelConfig) -> dict[str, Any]:
    """Returns no parameters: a `Method.init_params`."""
    return {}


def unchanged_weights(w: dict[str, jax.Array], method_params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the stored weights: an `AdaptWeights`."""
    return w


def all_trainable(path: str) -> bool:
    """Trains every parameter: a `Method.trainable`."""
    return True


def frozen(path: str) -> bool:
    """Trains no parameter, so that the method is applied to the base model as it is: a `Method.trainable`."""
    return False


@dataclasses.dataclass(frozen=True)
class Method:
    """A context-extension method. The default is the base model, unchanged, with all weights trained.

    Attributes:
      rope: RoPE frequencies by sequence length.
      attention: which keys a query attends to, and at which positions.
      attention_train: the attention in training, where it differs (LongLoRA, Landmark); None: `attention`.
      init_params: initializes the method's parameters, (key, cfg) -> tree; those under "layers" have a leading layer
        axis. They are stored beside the model's under "method".
      adapt: one layer's weights as used, from the stored ones and the method's parameters.
      trainable: whether the parameter at this path (names joined by "/") is trained.
      insert_tokens: inserts a token, which extends the vocabulary by one, into every sequence; None: it does not.
      row_length: training rows are split into rows of this many tokens; None: they are not split.

    """

    rope: RopeFn = plain_rope
    attention: AttentionFn = full_attention
    attention_train: AttentionFn | None = None
    init_params: Callable[[jax.Array, ModelConfig], dict[str, Any]] = no_params
    adapt: AdaptWeights = unchanged_weights
    trainable: Callable[[str], bool] = all_trainable
    insert_tokens: InsertTokens | None = None
    row_length: int | None = None
    # Not of `__init__`, so that `dataclasses.replace` drops it; not compared: equal methods share a compiled program.
    _identity: Identity | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    @property
    def trained(self) -> bool:
        """Whether any parameter is trained."""
        return self.trainable is not frozen

    @property
    def exact(self) -> bool:
        """Whether every query attends to all keys at their positions, in training and after."""
        return self.attention is full_attention and self.attention_train is None


@identified
def base() -> Method:
    """The base model as it was trained: no change."""
    return Method(trainable=frozen)


@identified
def continued() -> Method:
    """The base model trained on, with no change of positions or attention: the control of trained methods."""
    return Method()


@identified
def compose(position: Method, attention: Method) -> Method:
    """Combines the frequencies of one method with everything else of another: YaRN with Self-Extend, PI with S2-Attn.

    Args:
      position: gives the frequencies and their parameters.
      attention: gives attention, adapters, inserted tokens and what is trained; if it is frozen, `position` gives
        what is trained.

    Raises:
      ValueError: `position` changes attention as well.

    """
    if position.attention is not full_attention:
        raise ValueError("compose: the first method must not change attention")
    inits = [fn for fn in (position.init_params, attention.init_params) if fn is not no_params]
    trainable = attention.trainable if attention.trained else position.trainable
    if position.init_params is not no_params and attention.trained:
        trainable = AlsoMethodParams(attention.trainable)
    return dataclasses.replace(
        attention,
        rope=position.rope,
        init_params=JointInit(tuple(inits)) if inits else no_params,
        trainable=trainable,
    )


@identified
def unfrozen(method: Method) -> Method:
    """Returns the method with every parameter of the model trained."""
    return dataclasses.replace(method, trainable=all_trainable)


@dataclasses.dataclass(frozen=True)
class AlsoMethodParams:
    """A `Method.trainable`: what `inner` trains, and all parameters of the methods."""

    inner: Callable[[str], bool]

    def __call__(self, path):
        return path.startswith("method/") or self.inner(path)


@dataclasses.dataclass(frozen=True)
class JointInit:
    """A `Method.init_params`: the parameters of several methods."""

    parts: tuple[Callable[[jax.Array, ModelConfig], dict[str, Any]], ...]

    def __call__(self, key, cfg):
        return {name: x for init in self.parts for name, x in init(key, cfg).items()}


def category(method: Method) -> str:
    """Returns the method's group in tables, one of `CATEGORIES`."""
    if method == Method(trainable=method.trainable):
        return "base"
    return f"{'exact' if method.exact else 'approximate'} {'trained' if method.trained else 'frozen'}"


def with_inserted_token(cfg: ModelConfig, method: Method) -> ModelConfig:
    """Returns the model's configuration, whose vocabulary has one token more if the method inserts one."""
    return dataclasses.replace(cfg, vocab=cfg.vocab + (method.insert_tokens is not None))


CATEGORIES: tuple[str, ...] = ("base", "exact trained", "exact frozen", "approximate trained", "approximate frozen")
