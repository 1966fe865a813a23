"""Model families as data: the name and the axes of each parameter in Hugging Face's checkpoints."""

from typing import NamedTuple

from longjax.config import ModelConfig


class WeightEntry(NamedTuple):
    """Where a parameter is in a Hugging Face checkpoint.

    Attributes:
      hf_name: of the tensor; {} is the layer.
      axes: of the tensor. Letters written together are one axis: "NH D" is [N * H, D].
      part: which of `parts` equal runs of rows, where one tensor holds several parameters (MPT's Wqkv).

    """

    hf_name: str
    axes: str
    part: int = 0
    parts: int = 1


LLAMA = {
    "embed_VD": WeightEntry("model.embed_tokens.weight", "V D"),
    "norm_D": WeightEntry("model.norm.weight", "D"),
    "unembed_DV": WeightEntry("lm_head.weight", "V D"),
    "attn_norm_D": WeightEntry("model.layers.{}.input_layernorm.weight", "D"),
    "ffn_norm_D": WeightEntry("model.layers.{}.post_attention_layernorm.weight", "D"),
    "q_DNH": WeightEntry("model.layers.{}.self_attn.q_proj.weight", "NH D"),
    "k_DKH": WeightEntry("model.layers.{}.self_attn.k_proj.weight", "KH D"),
    "v_DKH": WeightEntry("model.layers.{}.self_attn.v_proj.weight", "KH D"),
    "o_NHD": WeightEntry("model.layers.{}.self_attn.o_proj.weight", "D NH"),
    "gate_DF": WeightEntry("model.layers.{}.mlp.gate_proj.weight", "F D"),
    "up_DF": WeightEntry("model.layers.{}.mlp.up_proj.weight", "F D"),
    "down_FD": WeightEntry("model.layers.{}.mlp.down_proj.weight", "D F"),
    "q_bias_NH": WeightEntry("model.layers.{}.self_attn.q_proj.bias", "NH"),
    "k_bias_KH": WeightEntry("model.layers.{}.self_attn.k_proj.bias", "KH"),
    "v_bias_KH": WeightEntry("model.layers.{}.self_attn.v_proj.bias", "KH"),
    "o_bias_D": WeightEntry("model.layers.{}.self_attn.o_proj.bias", "D"),
    "gate_bias_F": WeightEntry("model.layers.{}.mlp.gate_proj.bias", "F"),
    "up_bias_F": WeightEntry("model.layers.{}.mlp.up_proj.bias", "F"),
    "down_bias_D": WeightEntry("model.layers.{}.mlp.down_proj.bias", "D"),
}
PHI = LLAMA | {
    "norm_D": WeightEntry("model.final_layernorm.weight", "D"),
    "norm_bias_D": WeightEntry("model.final_layernorm.bias", "D"),
    "unembed_bias_V": WeightEntry("lm_head.bias", "V"),
    "attn_norm_bias_D": WeightEntry("model.layers.{}.input_layernorm.bias", "D"),
    "o_NHD": WeightEntry("model.layers.{}.self_attn.dense.weight", "D NH"),
    "o_bias_D": WeightEntry("model.layers.{}.self_attn.dense.bias", "D"),
    "up_DF": WeightEntry("model.layers.{}.mlp.fc1.weight", "F D"),
    "up_bias_F": WeightEntry("model.layers.{}.mlp.fc1.bias", "F"),
    "down_FD": WeightEntry("model.layers.{}.mlp.fc2.weight", "D F"),
    "down_bias_D": WeightEntry("model.layers.{}.mlp.fc2.bias", "D"),
}
MPT = {
    "embed_VD": WeightEntry("transformer.wte.weight", "V D"),
    "norm_D": WeightEntry("transformer.norm_f.weight", "D"),
    "unembed_DV": WeightEntry("lm_head.weight", "V D"),
    "attn_norm_D": WeightEntry("transformer.blocks.{}.norm_1.weight", "D"),
    "ffn_norm_D": WeightEntry("transformer.blocks.{}.norm_2.weight", "D"),
    "q_DNH": WeightEntry("transformer.blocks.{}.attn.Wqkv.weight", "NH D", 0, 3),
    "k_DKH": WeightEntry("transformer.blocks.{}.attn.Wqkv.weight", "KH D", 1, 3),
    "v_DKH": WeightEntry("transformer.blocks.{}.attn.Wqkv.weight", "KH D", 2, 3),
    "o_NHD": WeightEntry("transformer.blocks.{}.attn.out_proj.weight", "D NH"),
    "up_DF": WeightEntry("transformer.blocks.{}.ffn.up_proj.weight", "F D"),
    "down_FD": WeightEntry("transformer.blocks.{}.ffn.down_proj.weight", "D F"),
    "norm_bias_D": WeightEntry("transformer.norm_f.bias", "D"),
    "attn_norm_bias_D": WeightEntry("transformer.blocks.{}.norm_1.bias", "D"),
    "ffn_norm_bias_D": WeightEntry("transformer.blocks.{}.norm_2.bias", "D"),
    "q_bias_NH": WeightEntry("transformer.blocks.{}.attn.Wqkv.bias", "NH", 0, 3),
    "k_bias_KH": WeightEntry("transformer.blocks.{}.attn.Wqkv.bias", "KH", 1, 3),
    "v_bias_KH": WeightEntry("transformer.blocks.{}.attn.Wqkv.bias", "KH", 2, 3),
    "o_bias_D": WeightEntry("transformer.blocks.{}.attn.out_proj.bias", "D"),
    "up_bias_F": WeightEntry("transformer.blocks.{}.ffn.up_proj.bias", "F"),
    "down_bias_D": WeightEntry("transformer.blocks.{}.ffn.down_proj.bias", "D"),
}
MPT_BIASES = {  # name in ModelConfig.biases -> parameter
    "q": "q_bias_NH", "k": "k_bias_KH", "v": "v_bias_KH", "o": "o_bias_D", "up": "up_bias_F", "down": "down_bias_D",
    "norm": "norm_bias_D",
}  # fmt: skip
BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".masked_bias")  # saved by older versions of transformers
HEAD = "lm_head."


def weight_table(cfg: ModelConfig) -> dict[str, WeightEntry]:
    """Returns the table of the configuration's family, by parameter."""
    return PHI if cfg.parallel else MPT if cfg.norm == "layer" else LLAMA


def ignored(name: str) -> bool:
    """Returns whether the tensor of this name is a buffer and no weight."""
    return name.endswith(BUFFERS)
