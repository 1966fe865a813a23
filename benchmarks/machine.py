"""The machine of a measurement: devices, driver, versions, date, found without touching a device."""

import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess

PACKAGES = ("jax", "jaxlib", "torch", "transformers", "triton", "nvidia-cudnn-cu13", "nvidia-nccl-cu13")


def machine() -> dict[str, str]:
    """Describe this machine: devices, driver, versions, date."""
    cards = gpus()
    name, driver = cards[0].split(", ") if cards else (processor(), "none")
    facts = {"machine": f"{len(cards)} x {name}" if cards else name, "driver": driver}
    facts["python"] = platform.python_version()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def gpus() -> list[str]:
    """Return name and driver of each GPU."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return []


def processor() -> str:
    """Describe the processor of a machine without a GPU."""
    cpu = pathlib.Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, no GPU"
