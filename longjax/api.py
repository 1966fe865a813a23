"""The Python API: a checkpoint with a context-extension method that generates, scores, trains and saves.

Letters: B rows, T tokens of a row, S = T + 1 with the last target, V ids of the vocabulary.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from longjax import sharding
from longjax.checkpoints.extension import dtype_name, extended_model, extended_params, extension_method
from longjax.checkpoints.pretrained import Checkpoint, ExportOptions, export, open_checkpoint
from longjax.data import RowBatch
from longjax.data.tokenizer import Tokenizer
from longjax.evals.requests import GenerationRequest, GenerationResult, LoglikelihoodRequest, LoglikelihoodResult
from longjax.inference.engine import InferenceEngine
from longjax.inference.score import Scorer
from longjax.inference.texts import Loglikelihood, Text, check_ids, encode_texts
from longjax.methods.method import Method
from longjax.model.llama import Llama
from longjax.training.batch import as_batch
from longjax.training.recipe import Recipe
from longjax.training.train_step import TrainState, init_train_state, train_step


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """A checkpoint with a context-extension method, on one device or a mesh. `longjax.load` makes one.

    Texts are str or rows of token ids. A str gets the id that opens a document put before it, if the tokenizer has
    one; token ids are taken as they are. Texts of any lengths may be mixed: a result depends neither on the other texts
    nor on padding. All methods raise ValueError for empty texts, ids beyond the vocabulary, and lack of memory.

    Attributes:
      model: for inference.
      params: as `Llama.init` names them; the method's own are params["method"].
      source: the checkpoint that was loaded.
      mesh: devices that rows, sequences and weights are split over; None: one device.
      batch_tokens: tokens that are computed at once, padding included; the results do not depend on it.

    """

    model: Llama
    params: Any
    source: Checkpoint
    mesh: jax.sharding.Mesh | None = None
    batch_tokens: int = 16_384

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer. Raises ValueError if its folder has none."""
        return Tokenizer(self.source.folder)

    @cached_property
    def engine(self) -> InferenceEngine:
        """Runs requests of evaluators, which can ask more than `generate` and `loglikelihood`."""
        return InferenceEngine(self.model, self.params, self.tokenizer, {}, self.mesh, self.batch_tokens)

    def generate(
        self, prompts: Sequence[Text], max_new_tokens: int, *, stop: str | Sequence[str] = (), min_new_tokens: int = 0
    ) -> list[str]:
        """Continues each prompt greedily.

        Frequencies that depend on the length are those of the prompt's length plus `max_new_tokens`.

        Args:
          prompts: texts.
          max_new_tokens: at most so many tokens are generated.
          stop: generation ends before the first of these texts, or at the id that closes a document.
          min_new_tokens: neither ends it before so many tokens.

        Returns:
          The continuations, without the prompts and what ended them.

        """
        if not 0 <= min_new_tokens <= max_new_tokens or max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1 and min_new_tokens={min_new_tokens}")
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        requests = [
            GenerationRequest(ids_T, {}, max_new_tokens, stop_texts=stops, min_new_tokens=min_new_tokens)
            for ids_T in self.encode(prompts)
        ]
        return [result.text for result in self.engine(requests) if isinstance(result, GenerationResult)]

    def loglikelihood(self, texts: Sequence[Text]) -> list[Loglikelihood]:
        """Scores each text in one pass, every token given all before it.

        The first token is given, not scored. Of a str it is the id that opens a document, so that all of the text is
        scored, as lm-eval's `loglikelihood_rolling` does; tokenizers without that id leave the first token out.

        Args:
          texts: of any length.

        Returns:
          Sums of log p and numbers of scored tokens.

        """
        results = self.engine([LoglikelihoodRequest(ids_T, {}) for ids_T in self.encode(texts)])
        nlls = [result.nll_U for result in results if isinstance(result, LoglikelihoodResult)]
        return [Loglikelihood(-float(nll_U.sum(dtype=np.float64)), len(nll_U)) for nll_U in nlls]

    def logits(self, tokens_BT: ArrayLike, length: int | None = None) -> np.ndarray:
        """Computes the logits of the token after each.

        Args:
          tokens_BT: ids, [B, T]. Tokens that the method inserts (Landmark) are not among them.
          length: of the whole sequences, continuations included, which chooses the frequencies of methods such as
            dynamic NTK; None: T.

        Returns:
          logits_BTV, float32, on the host.

        """
        tokens_BT = check_ids(tokens_BT, "tokens_BT", 2, self.model.cfg.vocab)
        with self.mesh_context():
            return Scorer(self.model, self.params, self.mesh).logits(tokens_BT, length or tokens_BT.shape[1])

    def init_train_state(self, recipe: Recipe) -> TrainState:
        """Returns the state before the first update: a copy of the weights, their average and moments.

        Raises ValueError if the method trains no parameter.
        """
        with self.mesh_context():
            return init_train_state(self.train_model, recipe, self.params)

    def train_step(
        self, recipe: Recipe, state: TrainState, tokens_BS: ArrayLike
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Updates the state once. The program is compiled at the first call with a shape.

        Args:
          recipe: the same in all steps.
          state: of `init_train_state` or the step before. It is donated: use the returned one from now on.
          tokens_BS: ids, [recipe.batch_size, S]; all but the last token of a row are inputs, all but the first targets.

        Returns:
          The new state and metrics: "loss" (mean nats a token), "grad_norm", "learning_rate", "skipped" ...

        Raises:
          ValueError: the rows do not fit the recipe, the vocabulary, the method or the mesh.

        """
        tokens_BS = check_ids(tokens_BS, "tokens_BS", 2, self.model.cfg.vocab)
        if len(tokens_BS) != recipe.batch_size:
            raise ValueError(f"tokens_BS has {len(tokens_BS)} rows, but the recipe has batch_size={recipe.batch_size}")
        row_batch = RowBatch(tokens_BS, np.ones_like(tokens_BS[:, 1:], np.float32))
        batch: dict[str, Any] = dict(as_batch(row_batch, self.model.method, self.model.cfg))
        if self.mesh:
            B, T = batch["tokens_BT"].shape
            sharding.check_divisible(self.model.cfg, B, T, self.mesh)
            batch = dict(sharding.place_batch(batch, self.mesh))
        with self.mesh_context():
            return train_step(self.train_model, recipe, state, batch)

    def replace(self, *, params: Any) -> "LanguageModel":
        """Returns the same model with other parameters, such as `state.params(average=True)`."""
        return dataclasses.replace(self, params=params)

    def save_pretrained(
        self, folder: str | os.PathLike, *, dtype: str | None = None, length: int | None = None
    ) -> list[str]:
        """Writes a Hugging Face directory: weights with LoRA merged, config.json, tokenizer.

        `longjax.load` reads it, with the same `method` if the warnings are not empty.

        Args:
          folder: made if it is not there; what it holds of an earlier model is replaced.
          dtype: of the weights: bfloat16, float32, float16 or source (the checkpoint's); None: that of `params`.
          length: of the sequences that the model is for, at which frequencies that depend on it are frozen (CLEX,
            dynamic NTK); None: the method's.

        Returns:
          Warnings, which are also logged: what stock transformers cannot compute of the method.

        Raises:
          ValueError: the dtype is unknown or cannot hold a weight.

        """
        widest = max((x.dtype for name, x in self.params.items() if name != "method"), key=lambda x: x.itemsize)
        options = ExportOptions(dtype or jnp.dtype(widest).name, length=length)
        return export(os.fspath(folder), self.params, self.model.cfg, self.model.method, self.source, options)

    @property
    def train_model(self) -> Llama:
        """The model with the method's training-time attention."""
        return dataclasses.replace(self.model, train=True)

    def encode(self, texts: Sequence[Text]) -> list[np.ndarray]:
        """Returns the ids of texts, int32. Raises ValueError for an empty text, or ids beyond the vocabulary."""
        return encode_texts(texts, lambda text: self.tokenizer.encode(text, bos=True), self.model.cfg.vocab)

    def mesh_context(self) -> contextlib.AbstractContextManager[Any]:
        """Makes the mesh current, if there is one."""
        return jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext()


def load(
    folder: str | os.PathLike,
    method: Method | None = None,
    *,
    adapter: str | os.PathLike | None = None,
    dtype: DTypeLike = "bfloat16",
    param_dtype: DTypeLike | None = None,
    mesh: jax.sharding.Mesh | None = None,
    seed: int = 0,
) -> LanguageModel:
    """Loads a checkpoint with a context-extension method.

    Args:
      folder: of Hugging Face (safetensors or .bin), of Meta (.pth), or of `longjax-convert --to=orbax`.
      method: of `longjax.methods`, such as yarn(factor=8.0); None: the checkpoint's own. Parameters that only the
        method has, and the token that it inserts, are read from the folder, or new with a warning.
      adapter: folder with a LoRA adapter of PEFT or LongLoRA's release, merged into the weights.
      dtype: of activations: bfloat16 or float32.
      param_dtype: of the parameters; None: dtype. Training updates float32 copies of them (`Recipe.state_dtype`):
        float32 keeps all bits of the checkpoint for these.
      mesh: of `longjax.sharding.make_mesh`: devices that rows, sequences and weights are split over; None: one device.
      seed: of new parameters of the method.

    Returns:
      The model, on its devices.

    Raises:
      ValueError: a file is missing or damaged, the model is not supported, or it was trained for another method.

    Examples:
      >>> import longjax
      >>> from longjax.methods import yarn
      >>> lm = longjax.load("/models/Llama-2-7b-hf", method=yarn(factor=8.0))

    """
    if not (method is None or isinstance(method, Method)):
        raise ValueError(f"method={method!r} is no method: call one of longjax.methods, as in method=yarn(factor=8.0)")
    name, param_name = dtype_name(dtype), dtype_name(dtype if param_dtype is None else param_dtype)
    checkpoint = open_checkpoint(folder, adapter, name)
    model = extended_model(checkpoint, extension_method(checkpoint, method), mesh)
    params = extended_params(checkpoint, model, mesh, param_name, seed)
    return LanguageModel(model, params, checkpoint, mesh)
