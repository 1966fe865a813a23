"""The kernels that a machine gets, and the reason that is logged when it gets slower ones."""

from typing import NamedTuple

import jax
import pytest

from longjax.attention import backends
from longjax.attention.blockwise import Blockwise
from longjax.attention.core import Dense
from longjax.attention.fused import Fused
from longjax.attention.kernels import cudnn
from longjax.attention.landmark import memory
from longjax.attention.landmark.blocks import GatheredBlocks
from tools import check_kernels
from tools.check_kernels import Case, allowed, errors


class Device(NamedTuple):
    device_kind: str = "NVIDIA H200"
    compute_capability: str = "9.0"
    platform: str = "gpu"


def test_every_platform_gets_its_backend():
    assert isinstance(backends.default_backend(), Blockwise)  # of this CPU
    assert all(isinstance(backends.default_backend(platform), Fused) for platform in ("gpu", "tpu"))
    assert backends.backend_by_name("tiles") == Blockwise()


@pytest.mark.parametrize(
    ("device", "version", "reason"),
    [
        (Device("AMD Instinct MI300X"), 91_900, "NVIDIA GPU"),
        (Device("NVIDIA V100", "7.0"), 91_900, "Ampere"),
        (Device(), 89_000, "older"),
        (Device(), None, "does not load"),
    ],
)
def test_why_a_gpu_falls_back_is_logged(device, version, reason, monkeypatch):
    def check():
        if version is None:
            raise RuntimeError("libcudnn.so.9: cannot open shared object file")
        return version

    monkeypatch.setattr(cudnn.cudnn, "check_cudnn_version", check)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    logged = []
    monkeypatch.setattr(backends, "log_once", lambda reason, fallback: logged.append(reason))
    assert not isinstance(backends.default_backend(), Fused)
    assert reason in logged[0]


def test_the_check_of_kernels_sees_an_error(monkeypatch):
    """On a CPU it compares tiles with the dense softmax; a kernel that leaves out a branch is found."""
    monkeypatch.setattr(check_kernels, "T", 96)
    case = Case("self_extend", 2, 16, True)
    monkeypatch.setitem(check_kernels.SMALL, "self_extend", {"window": 16, "group": 4})
    assert all(x <= limit for x, limit in zip(errors(case), allowed(case), strict=True))
    monkeypatch.setattr(check_kernels, "default_backend", lambda: lambda branches: Blockwise()(branches[:1]))
    assert errors(case)[0] > 0.01


class Fewer(GatheredBlocks):
    """Opens one block fewer."""

    def attend(self, queries, block_BTNJ, *rest):
        return super().attend(queries, block_BTNJ[..., 1:], *rest)


def test_the_check_of_landmark_sees_an_error(monkeypatch):
    monkeypatch.setattr(check_kernels, "T", 300)
    assert check_kernels.landmark_error() < check_kernels.ALLOWED_TWICE_ROUNDED

    def block_attention_for(backend, *_):
        return GatheredBlocks() if backend == Dense() else Fewer()

    monkeypatch.setattr(memory, "block_attention_for", block_attention_for)
    assert check_kernels.landmark_error() > 0.01
