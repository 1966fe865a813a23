"""Model configurations. No JAX."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of a LLaMA-family decoder. The defaults are LLaMA-2 7B.

    How a family differs from LLaMA (biases, LayerNorm, a parallel block, partial rotation) is data here and in
    `model.llama.layer_shapes`; the computation follows from which weights exist.
    """

    vocab: int = 32_000  # tokens of the vocabulary
    dim: int = 4096  # width of the residual stream
    layers: int = 32
    heads: int = 32  # query heads
    kv_heads: int = 32  # key and value heads; they divide `heads`
    ffn: int = 11_008  # hidden units of the feed-forward layer
    head_width: int | None = None  # None: dim / heads
    rope_base: float = 10_000.0  # b of b^(-2r/d), the frequency of rotary pair r
    rotary_fraction: float = 1.0  # share of each head that is rotated, from its start; Phi-2: 0.4, MPT: 0
    norm: Literal["rms", "layer"] = "rms"  # RMSNorm or LayerNorm
    norm_eps: float = 1e-5  # added to the variance
    act: Literal["silu", "gelu", "gelu_tanh"] = "silu"  # of the feed-forward layer
    gated: bool = True  # feed-forward act(gate) * up; False: act(up)
    parallel: bool = False  # attention and feed-forward share one norm and are added together (Phi)
    biases: tuple[str, ...] = ()  # which exist, of: q k v o gate up down norm (all norms) unembed
    clip_qkv: float | None = None  # bound of queries, keys and values (MPT); None: they are not clipped
    tied: bool = False  # the unembedding is the transposed embedding
    trained_len: int = 4096  # context of the base model in tokens: C in the papers
    dtype: str = "bfloat16"  # of activations; parameters are float32

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.head_width or self.dim // self.heads

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that RoPE rotates, two a pair."""
        return int(self.head_dim * self.rotary_fraction)


LLAMA2_7B = ModelConfig()
TINY = ModelConfig(vocab=97, dim=64, layers=2, heads=4, kv_heads=2, ffn=96, trained_len=32, dtype="float32")
SHAPES = {
    "llama2_7b": LLAMA2_7B,
    "llama2_13b": ModelConfig(dim=5120, layers=40, heads=40, kv_heads=40, ffn=13_824),
    "llama3_8b": ModelConfig(vocab=128_256, kv_heads=8, ffn=14_336, rope_base=500_000.0, trained_len=8192),
    "tiny": ModelConfig(vocab=4096, dim=512, layers=2, heads=4, kv_heads=4, ffn=1024, head_width=128),
}
