"""Any method with low-rank adapters: they and the method's own parameters are trained, nothing else."""

import dataclasses

from longjax.lora import AXES, Lora, LoraInit
from longjax.methods.base import Joint, Method, nothing, unchanged


def own_only(path: str) -> bool:
    return path.startswith("method/")


def with_lora(method: Method, rank: int = 8, alpha: float = 16.0, names: tuple[str, ...] = tuple(AXES)) -> Method:
    """-> the method with adapters on the projections `names`; memory for moments and averages of these alone."""
    if method.adapt is not unchanged:
        raise ValueError("--lora_rank: the method has adapters of its own")
    lora = Lora(rank, alpha, names)
    own = LoraInit(lora) if method.own is nothing else Joint((method.own, LoraInit(lora)))
    return dataclasses.replace(method, own=own, adapt=lora, trainable=own_only)
