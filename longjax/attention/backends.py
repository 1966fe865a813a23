"""Which softmax is the fastest on this machine.

On NVIDIA GPUs the rectangles of a method go to cuDNN, everything else to a Pallas kernel; on TPUs to splash
attention; elsewhere all is done in tiles by XLA. Measured on an H200, see results/benchmarks.
"""

from typing import Literal

import jax

from longjax.attention.blockwise import Blockwise
from longjax.attention.core import Dense, Softmax
from longjax.attention.fused import Fused, say_once
from longjax.attention.kernels import cudnn
from longjax.attention.kernels.splash import Splash
from longjax.attention.kernels.triton import Triton, refuses
from longjax.attention.kernels.triton_decode import Decode

Backend = Literal["auto", "tiles", "dense"]


def best(platform: str | None = None) -> Softmax:
    """-> for "gpu", "tpu" or "cpu"; None: for the devices at hand. What a kernel refuses is said in a log line."""
    platform = platform or jax.default_backend()
    if platform in ("gpu", "cuda"):
        general = Blockwise() if refuses() else Triton()
        why = cudnn.unusable(jax.devices()[0]) if jax.default_backend() == "gpu" else None  # else it is compiled for
        if why:
            say_once(why, general)
        return general if why else Fused(cudnn.Cudnn(), general)
    return Fused(Splash()) if platform == "tpu" else Blockwise()


def decoding(platform: str | None = None) -> Softmax:
    """-> the same for one query a row and a cache."""
    platform = platform or jax.default_backend()
    return Decode() if platform in ("gpu", "cuda") and not refuses() else Dense()


def chosen(name: Backend) -> Softmax:
    """-> by its name on the command line."""
    return {"auto": best(), "tiles": Blockwise(), "dense": Dense()}[name]
