"""Which softmax is the fastest on this machine.

On NVIDIA GPUs the rectangles of a method go to cuDNN, everything else to a Pallas kernel; on TPUs to splash
attention; elsewhere all is done in tiles by XLA. Measured on an H200, see results/benchmarks.
"""

from typing import Literal

import jax

from longjax.attention.blockwise import Blockwise
from longjax.attention.core import AttentionBackend, Dense
from longjax.attention.fused import Fused, log_once
from longjax.attention.kernels import cudnn
from longjax.attention.kernels.splash import Splash
from longjax.attention.kernels.triton import Triton, unsupported_reason
from longjax.attention.kernels.triton_decode import TritonDecode

Backend = Literal["auto", "tiles", "dense"]


def default_backend(platform: str | None = None) -> AttentionBackend:
    """-> for "gpu", "tpu" or "cpu"; None: for the devices at hand. What a kernel refuses is said in a log line."""
    platform = platform or jax.default_backend()
    if platform in ("gpu", "cuda"):
        general = Blockwise() if unsupported_reason() else Triton()
        why = (
            cudnn.unusable_reason(jax.devices()[0]) if jax.default_backend() == "gpu" else None
        )  # else it is compiled for
        if why:
            log_once(why, general)
        return general if why else Fused(cudnn.Cudnn(), general)
    return Fused(Splash()) if platform == "tpu" else Blockwise()


def default_decode_backend(platform: str | None = None) -> AttentionBackend:
    """-> the same for one query a row and a cache."""
    platform = platform or jax.default_backend()
    return TritonDecode() if platform in ("gpu", "cuda") and not unsupported_reason() else Dense()


def backend_by_name(name: Backend) -> AttentionBackend:
    """-> by its name on the command line."""
    return {"auto": default_backend(), "tiles": Blockwise(), "dense": Dense()}[name]
