"""Plain, frozen descriptions of models. No JAX here."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a LLaMA-family decoder. The defaults are LLaMA-2 7B.

    What a family has beside LLaMA (biases, LayerNorm, a parallel block, partial rotation) is data here and in
    `llama.layer_shapes`; the arithmetic follows from which weights exist.
    """

    vocab: int = 32_000
    dim: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    ffn: int = 11_008
    head_width: int | None = None  # None: dim / heads
    rope_base: float = 10_000.0
    rotary_fraction: float = 1.0  # of each head, from its start; Phi-2: 0.4, MPT: 0
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    act: Literal["silu", "gelu", "gelu_tanh"] = "silu"
    gated: bool = True  # feed-forward act(gate) * up; False: act(up)
    parallel: bool = False  # attention and feed-forward both read one norm (Phi)
    biases: tuple[str, ...] = ()  # of these: q k v o gate up down norm (all of them) unembed
    clip_qkv: float | None = None  # queries, keys and values are clipped to +- this (MPT)
    tied: bool = False  # logits from the embedding
    trained_len: int = 4096  # context of the base model: C in the papers
    dtype: str = "bfloat16"  # of activations; parameters are float32

    @property
    def head_dim(self) -> int:
        return self.head_width or self.dim // self.heads

    @property
    def rotary_dim(self) -> int:
        return int(self.head_dim * self.rotary_fraction)


LLAMA2_7B = ModelConfig()
TINY = ModelConfig(vocab=97, dim=64, layers=2, heads=4, kv_heads=2, ffn=96, trained_len=32, dtype="float32")
SHAPES = {
    "llama2_7b": LLAMA2_7B,
    "llama2_13b": ModelConfig(dim=5120, layers=40, heads=40, kv_heads=40, ffn=13_824),
    "llama3_8b": ModelConfig(vocab=128_256, kv_heads=8, ffn=14_336, rope_base=500_000.0, trained_len=8192),
    "tiny": ModelConfig(vocab=4096, dim=512, layers=2, heads=4, kv_heads=4, ffn=1024, head_width=128),
}
