"""Logits that a Hugging Face directory gives in longjax and in stock transformers."""

import importlib.util
import pathlib

import jax
import numpy as np

from longjax.attention.core import TokenPositions
from longjax.checkpoints import pretrained
from longjax.checkpoints.pretrained import Checkpoint
from longjax.model.llama import Llama, logits


def longjax_logits(checkpoint: Checkpoint, tokens_BT: np.ndarray) -> np.ndarray:
    """Returns logits_BTV of longjax. The checkpoint must be opened in float32."""
    model, (B, T) = Llama(checkpoint.cfg, checkpoint.method), tokens_BT.shape
    params = pretrained.load(checkpoint.tensors, checkpoint.cfg)

    @jax.jit
    def run(params, tokens_BT):
        hidden_BTD, _ = model.apply({"params": params}, tokens_BT, TokenPositions.whole(B, T), T)
        return logits(params, hidden_BTD)

    with jax.default_matmul_precision("highest"):
        return np.asarray(run(params, tokens_BT.astype(np.int32)))


def transformers_logits(folder: pathlib.Path, tokens_BT: np.ndarray) -> np.ndarray | None:
    """Returns logits_BTV of transformers in float32; None if torch or transformers is not installed."""
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        return None
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    with torch.no_grad():
        return model.eval()(torch.tensor(tokens_BT.astype(np.int64))).logits.numpy()
