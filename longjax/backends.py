"""Which softmax is the fastest on this machine.

On NVIDIA GPUs the rectangles of a method go to cuDNN, everything else to a Pallas kernel; on TPUs to splash
attention; elsewhere all is done in tiles by XLA. Measured on an H200, see results/benchmarks.
"""

import jax

from longjax.attention import Softmax
from longjax.blockwise import Blockwise
from longjax.fused import Fused
from longjax.kernels.cudnn import Cudnn
from longjax.kernels.splash import Splash


def best(platform: str | None = None) -> Softmax:
    """-> for "gpu", "tpu" or "cpu"; None: for the devices at hand. What a kernel refuses is said in a log line."""
    platform = platform or jax.default_backend()
    kernels = {"gpu": Cudnn(), "cuda": Cudnn(), "tpu": Splash()}
    return Fused(kernels[platform]) if platform in kernels else Blockwise()
