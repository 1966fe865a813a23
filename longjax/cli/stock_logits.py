"""Logits that a Hugging Face directory, or a GGUF file, gives in longjax and in stock transformers."""

import importlib.util
import pathlib

import jax
import numpy as np

from longjax.api import LanguageModel
from longjax.checkpoints.extension import extended_model, extended_params
from longjax.checkpoints.pretrained import Checkpoint


def longjax_logits(checkpoint: Checkpoint, tokens_BT: np.ndarray) -> np.ndarray:
    """Returns logits_BTV of longjax. The checkpoint must be opened in float32."""
    model = extended_model(checkpoint, checkpoint.method)
    lm = LanguageModel(model, extended_params(checkpoint, model, dtype=np.float32), checkpoint)
    with jax.default_matmul_precision("highest"):
        return lm.logits(tokens_BT)


def transformers_logits(folder: pathlib.Path, tokens_BT: np.ndarray) -> np.ndarray | None:
    """Returns logits_BTV of transformers in float32; None if torch or transformers is not installed."""
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        return None
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    directory, file = (folder.parent, folder.name) if folder.suffix == ".gguf" else (folder, None)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, gguf_file=file, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    with torch.no_grad():
        return model.eval()(torch.tensor(tokens_BT.astype(np.int64))).logits.numpy()
