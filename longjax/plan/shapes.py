"""Models by name, for plans that are made before there is a checkpoint."""

from longjax.config import LLAMA2_7B, ModelConfig

SHAPES = {
    "llama2_7b": LLAMA2_7B,
    "llama2_13b": ModelConfig(dim=5120, layers=40, heads=40, kv_heads=40, ffn=13_824),
    "llama3_8b": ModelConfig(vocab=128_256, kv_heads=8, ffn=14_336, rope_base=500_000.0, trained_len=8192),
    "tiny": ModelConfig(vocab=4096, dim=512, layers=2, heads=4, kv_heads=4, ffn=1024, head_width=128),
}
