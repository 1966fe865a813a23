"""The fastest back end of attention for each platform.

On NVIDIA GPUs cuDNN does attention that is made of rectangles, a Pallas kernel everything else; on TPUs splash
attention does rectangles; all else is done in tiles by XLA. Measured on an H200, see results/benchmarks.
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
    """Return the fastest back end for training and prefill. A log line names why a GPU cannot use cuDNN.

    Args:
      platform: "gpu", "tpu" or "cpu"; None: that of the default device.

    """
    platform = platform or jax.default_backend()
    if platform in ("gpu", "cuda"):
        general = Blockwise() if unsupported_reason() else Triton()
        compiling_elsewhere = jax.default_backend() != "gpu"
        reason = None if compiling_elsewhere else cudnn.unusable_reason(jax.devices()[0])
        if reason:
            log_once(reason, general)
        return general if reason else Fused(cudnn.Cudnn(), general)
    return Fused(Splash()) if platform == "tpu" else Blockwise()


def default_decode_backend(platform: str | None = None) -> AttentionBackend:
    """Return the fastest back end for decoding, one query a row with a cache; see `default_backend`."""
    platform = platform or jax.default_backend()
    return TritonDecode() if platform in ("gpu", "cuda") and not unsupported_reason() else Dense()


def backend_by_name(name: Backend) -> AttentionBackend:
    """Return a back end by its name on the command line."""
    return {"auto": default_backend(), "tiles": Blockwise(), "dense": Dense()}[name]
