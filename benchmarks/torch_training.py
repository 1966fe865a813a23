"""The peer's training: Hugging Face's LlamaForCausalLM, FSDP2 on several GPUs, one process each.

As one would tune it by hand today: cuDNN's attention, every layer checkpointed, logits a slice of tokens at a time,
fused AdamW, bfloat16 products; with float32 state on several GPUs, weights are gathered in bfloat16 and gradients
summed in float32.
"""

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from benchmarks.beside import case_main, die_with_parent
from benchmarks.page import Row
from benchmarks.torch_llama import CUDA, SIZES, TINY, llama

SLICE = 4096  # tokens whose logits are made at once
PEAK = 989e12


def with_sliced_loss(model: Any, targets: torch.Tensor) -> None:
    """Make the head return the loss: the logits of all tokens never exist, and FSDP's gathers stay as they are."""
    head = model.lm_head

    def of_slice(hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy((hidden @ weight.t()).float(), targets, reduction="sum")

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        hidden, flat, total = hidden.flatten(0, 1), targets.flatten(), torch.zeros((), device=hidden.device)
        for at in range(0, len(flat), SLICE):
            weight = head.weight.to(hidden.dtype)
            part: Any = checkpoint(
                of_slice, hidden[at : at + SLICE], flat[at : at + SLICE], weight, use_reentrant=False
            )
            total = total + part
        return total / len(flat)

    head.forward = forward


def split(model: Any) -> None:
    """Shard the model by FSDP2."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def flops_a_token(sizes: dict[str, int], layers: int, length: int) -> float:
    """Return the FLOPs a token, forward once and backward twice: products with weights, and causal attention."""
    D, F_, V = (sizes[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    return 6.0 * (layers * (4 * D * D + 3 * D * F_) + V * D) + 6.0 * layers * D * (length + 1)


def worker(rank: int, about: Row, port: int, results: Any) -> None:
    """Train on one GPU and put the row into `results`."""
    die_with_parent()
    gpus, length, state, sizes = about["gpus"], about["length"], about["state"], TINY if about["tiny"] else SIZES
    device = torch.device("cuda", rank) if CUDA else torch.device("cpu")
    if CUDA:
        torch.cuda.set_device(device)
    if gpus > 1:
        where = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("nccl" if CUDA else "gloo", init_method=where, rank=rank, world_size=gpus)
    torch.manual_seed(0)
    model = llama(sizes, about["layers"], length, getattr(torch, state), device).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tokens = torch.randint(0, sizes["vocab_size"], (about["rows"], length + 1), device=device)
    if gpus > 1:
        split(model)
    with_sliced_loss(model, tokens[:, 1:])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0, fused=CUDA)
    times, losses = [], []
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION if CUDA else SDPBackend.MATH]):
        for _ in range(about["steps"] + 1):
            start = time.perf_counter()
            loss = model(input_ids=tokens[:, :-1], use_cache=False).logits
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())  # blocks
            if CUDA:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    if rank == 0:
        step_s = sorted(times[1:])[len(times[1:]) // 2]
        rate = about["rows"] * length / step_s  # of each GPU
        results.put({
            "rows": about["rows"] * gpus, "step_s": step_s, "tokens_s_gpu": rate,
            "mfu": flops_a_token(sizes, about["layers"], length) * rate / PEAK,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if CUDA else None, "compile_s": None,
            "losses": losses,
        })  # fmt: skip
    if gpus > 1:
        dist.destroy_process_group()


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def measure(
    length: int, layers: int, steps: int, tiny: bool, gpus: int, state: str = "float32", rows: int = 1
) -> Iterator[Row]:
    """Measure one case; `rows` of each GPU. On one GPU the state is bfloat16 throughout."""
    if gpus == 1 and state == "float32" and not tiny:
        raise ValueError("state=float32 of 7B and its float32 gradients take over 100 GiB: state=bfloat16 on one GPU")
    os.environ.setdefault("OMP_NUM_THREADS", "4")
    about = {
        "length": length, "layers": layers, "steps": steps, "tiny": tiny, "gpus": gpus, "state": state, "rows": rows
    }  # fmt: skip
    results = multiprocessing.get_context("spawn").SimpleQueue()
    spawn(worker, args=(about, free_port(), results), nprocs=gpus)
    yield results.get()


if __name__ == "__main__":
    case_main(measure)
