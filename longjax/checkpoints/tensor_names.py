"""Names of a LLaMA's tensors in Meta's releases and in llama.cpp's files, and what Hugging Face calls them."""

from collections.abc import Mapping
from typing import NamedTuple


class TensorNames(NamedTuple):
    """The names of one kind of files.

    Attributes:
      block: what stands before the number of a layer.
      outer: Hugging Face's names of modules outside the layers.
      layer: those of modules in a layer.

    """

    block: str
    outer: Mapping[str, str]
    layer: Mapping[str, str]

    def in_hf(self, name: str) -> str | None:
        """Returns Hugging Face's name, as of layers.0.attention.wq.weight model.layers.0.self_attn.q_proj.weight.

        None: these files have no such tensor.
        """
        module, _, kind = name.rpartition(".")
        if module in self.outer:
            return f"{self.outer[module]}.{kind}"
        block, number, rest = [*module.split(".", 2), "", ""][:3]
        known = block == self.block and rest in self.layer
        return f"model.layers.{number}.{self.layer[rest]}.{kind}" if known else None


META = TensorNames(
    "layers",
    {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"},
    {
        "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    },
)  # fmt: skip
GGUF = TensorNames(
    "blk",
    {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"},
    {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    },
)  # fmt: skip
