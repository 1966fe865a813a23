"""A checkpoint with a context-extension method: the method on its base, the model, and the parameters of both."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import traverse_util
from jax.typing import DTypeLike

from longjax import made_by_0_1, sharding
from longjax.attention.backends import default_backend
from longjax.checkpoints import pretrained
from longjax.checkpoints.config_from_hf import on_base
from longjax.checkpoints.loader import Mesh
from longjax.checkpoints.pretrained import Checkpoint
from longjax.checkpoints.resize_vocab import resize_vocab
from longjax.config import ModelConfig
from longjax.methods.further import further
from longjax.methods.identity import identity_as_call, method_identity
from longjax.methods.method import Method, plain_rope, with_inserted_token
from longjax.model.llama import Llama
from longjax.model.placement import SingleDevice
from longjax.progress import ProgressFn, no_progress


def extension_method(checkpoint: Checkpoint, method: Method | None) -> Method:
    """Returns the method as it applies to this checkpoint.

    Args:
      checkpoint: opened, not loaded.
      method: to extend the context with; None: what the checkpoint's configuration asks for.

    Raises:
      ValueError: the checkpoint was trained for another method, which its configuration cannot express.

    """
    method = on_base(method, checkpoint.method) if method else checkpoint.method
    identity = method_identity(method)
    provenance = made_by_0_1.method_file(pretrained.read_provenance(checkpoint.folder), method, identity)
    if (trained := provenance.get("method", identity)) != identity:
        raise ValueError(
            f"{checkpoint.folder} is for another method: name it with --method and --method_config, so that it is "
            f"{identity_as_call(trained)}; now it is {identity_as_call(identity)}"
        )
    return method


def from_all_it_reads(cfg: ModelConfig, method: Method, config: Mapping[str, Any]) -> tuple[ModelConfig, Method]:
    """Returns model and method of a base so that methods extend it from all tokens that it reads now.

    They differ where the configuration scales RoPE already (Llama 3.1: 8,192 tokens, extended to 131,072).

    Args:
      cfg: of the base.
      method: what its configuration asks for.
      config: its config.json.

    """
    reach = config.get("max_position_embeddings")
    if method.rope is plain_rope or not (isinstance(reach, int) and reach > cfg.trained_len):
        return cfg, method
    return dataclasses.replace(cfg, trained_len=reach), further(method, cfg.trained_len)


def extended_model(checkpoint: Checkpoint, method: Method, mesh: Mesh = None) -> Llama:
    """Returns the model of a checkpoint with a method of `extension_method`, for inference with the fastest back end.

    Its vocabulary has one more token if the method inserts one that the checkpoint does not have.
    """
    cfg = with_inserted_token(checkpoint.cfg, method) if lacks_inserted_token(checkpoint, method) else checkpoint.cfg
    placement = sharding.MeshPlacement() if mesh else SingleDevice()
    return Llama(cfg, method, backend=default_backend(), placement=placement)


def extended_params(
    checkpoint: Checkpoint, model: Llama, mesh: Mesh = None, dtype: DTypeLike = jnp.bfloat16, seed: int = 0,
    report: ProgressFn = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Loads the parameters of a checkpoint and of a method.

    What the checkpoint does not have is new, and a warning says so: the inserted token's embedding is the mean of the
    others, the method's own parameters are initialized. LoRA's adapters, which checkpoints hold merged into the
    weights, are new without a warning: their product begins at zero.

    Args:
      checkpoint: opened, not loaded.
      model: as `extended_model` returns it.
      mesh: devices that the parameters are spread over; None: one.
      dtype: of the checkpoint's parameters; the method's own stay as they are.
      seed: of new parameters.
      report: called with the share that is read.

    Returns:
      The model's parameters, on their devices.

    Raises:
      ValueError: tensors are missing, damaged or of another shape.

    """
    params: dict[str, Any] = dict(pretrained.load(checkpoint.tensors, checkpoint.cfg, mesh, dtype, report))
    if lacks_inserted_token(checkpoint, model.method):
        logging.warning("%s has not been trained with inserted tokens: their embedding is new", checkpoint.folder)
        params = resize_vocab(params)
    fresh = traverse_util.flatten_dict(new_method_params(model.method, model.cfg, seed), sep="/")
    stored = traverse_util.flatten_dict({"method": pretrained.load_method_params(checkpoint.folder)}, sep="/")
    if untrained := sorted(name for name in fresh.keys() - stored.keys() if "/lora_" not in name):
        logging.warning(
            "%s lacks %s of the method: they are new and untrained", checkpoint.folder, ", ".join(untrained)
        )
    params |= traverse_util.unflatten_dict(fresh | stored, sep="/")
    return sharding.shard_params(params, mesh) if mesh else jax.device_put(params)


def extend_params(base: Mapping[str, Any], method: Method, cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """Returns a base model's parameters with what the method adds: the inserted token, parameters of its own.

    `cfg` is that of the extended model, `seed` that of new parameters.
    """
    return {**(resize_vocab(base) if method.insert_tokens else base), **new_method_params(method, cfg, seed)}


def new_method_params(method: Method, cfg: ModelConfig, seed: int) -> dict[str, Any]:
    """Returns {"method": the method's own parameters, initialized}, or {} if it has none."""
    method_params = method.init_params(jax.random.key(seed), cfg)
    return {"method": method_params} if method_params else {}


def lacks_inserted_token(checkpoint: Checkpoint, method: Method) -> bool:
    """Returns whether the method inserts tokens that the checkpoint has no embedding of."""
    return method.insert_tokens is not None and not pretrained.read_provenance(checkpoint.folder)


def dtype_name(dtype: Any) -> str:
    """Returns the name of a type that models compute in. Raises ValueError for others."""
    for name in ("bfloat16", "float32"):
        if jnp.dtype(name) == dtype:
            return name
    raise ValueError(f"dtype={dtype} is not supported: choose bfloat16 or float32")
