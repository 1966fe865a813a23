"""What a context-extension method may change about a LLaMA."""

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
    """`length` is that of the whole sequence, prompt and continuation; `own` are the method's parameters;
    `key` is given in training only.
    """

    def __call__(self, cfg: ModelConfig, length: int, method_params: dict[str, Any], key: jax.Array | None) -> Rope: ...


class AttentionFn(Protocol):
    """Attention for a sequence of `length` tokens. A frozen dataclass."""

    def __call__(self, cfg: ModelConfig, length: int) -> Attention: ...


class AdaptWeights(Protocol):
    """One layer's weights as the method uses them (LoRA). `own` are the method's parameters of that layer."""

    def __call__(self, w: dict[str, jax.Array], method_params: dict[str, jax.Array]) -> dict[str, jax.Array]: ...


class InsertTokens(Protocol):
    """Tokens that the method adds to every sequence (landmarks), on the host."""

    def __call__(self, tokens_BT: np.ndarray, token: int) -> tuple[np.ndarray, np.ndarray]:
        """-> (tokens_BS, real_BS): rows longer by `token`s, and which of their tokens were there before."""
        ...

    def is_inserted(self, index: Any) -> Any:
        """Whether an element at this index of the longer row is one of them. Generation puts one there, too."""
        ...


def fixed_rope(inv_freq_R: np.ndarray, scale: float = 1.0, query_scale: float = 1.0) -> Rope:
    """Frequencies computed on the host in float64, rounded once to float32."""
    return Rope(jnp.asarray(inv_freq_R, jnp.float32), scale, query_scale)


def plain_rope(cfg: ModelConfig, length: int, method_params: dict[str, Any], key: jax.Array | None) -> Rope:
    return fixed_rope(inv_freq(cfg))


def full_attention(cfg: ModelConfig, length: int) -> Attention:
    return BranchedAttention()


def no_params(key: jax.Array, cfg: ModelConfig) -> dict[str, Any]:
    return {}


def unchanged_weights(w: dict[str, jax.Array], method_params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return w


def all_trainable(path: str) -> bool:
    return True


def frozen(path: str) -> bool:
    """Nothing is trained: the method is applied to the base as it is."""
    return False


@dataclasses.dataclass(frozen=True)
class Method:
    """The default is the base model, untouched.

    Attributes:
      rope: how fast pairs turn.
      attention: who sees whom from where.
      attention_train: the same in training, where it differs (LongLoRA, Landmark).
      own: initialises the method's own parameters; those under "layers" have a leading layer axis.
      adapt: one layer's weights as used, from the stored ones and the method's own.
      trainable: whether the parameter at this path (names joined by "/") is trained.
      insert: tokens added to every sequence; the vocabulary grows by this one token. None: none.
      piece: training cuts the rows into pieces of so many tokens. None: it does not.

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
        return self.trainable is not frozen

    @property
    def exact(self) -> bool:
        """Whether every query sees all keys at their places, in training and after."""
        return self.attention is full_attention and self.attention_train is None


@identified
def base() -> Method:
    """The model as it was trained."""
    return Method(trainable=frozen)


@identified
def compose(position: Method, attention: Method) -> Method:
    """The frequencies of one method with the attention of another: YaRN x Self-Extend, PI x S2, YaRN x DCA."""
    if position.attention is not full_attention:
        raise ValueError("compose: the first method must leave attention as it is")
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
    """The method with all of the model trained."""
    return dataclasses.replace(method, trainable=all_trainable)


@dataclasses.dataclass(frozen=True)
class AlsoMethodParams:
    """What `inner` trains, and all of the methods' own parameters."""

    inner: Callable[[str], bool]

    def __call__(self, path):
        return path.startswith("method/") or self.inner(path)


@dataclasses.dataclass(frozen=True)
class JointInit:
    """The own parameters of several methods."""

    parts: tuple[Callable[[jax.Array, ModelConfig], dict[str, Any]], ...]

    def __call__(self, key, cfg):
        return {name: x for part in self.parts for name, x in part(key, cfg).items()}


def category(method: Method) -> str:
    """-> the method's group in tables."""
    if method == Method(trainable=method.trainable):
        return "base"
    return f"{'exact' if method.exact else 'approximate'} {'trained' if method.trained else 'frozen'}"


def with_inserted_token(cfg: ModelConfig, method: Method) -> ModelConfig:
    """The model with a token more, if the method inserts one."""
    return dataclasses.replace(cfg, vocab=cfg.vocab + (method.insert_tokens is not None))


CATEGORIES: tuple[str, ...] = ("base", "exact trained", "exact frozen", "approximate trained", "approximate frozen")
