"""Where something was measured: devices, driver, versions, date. Nothing of it touches a device."""

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
    found = {"machine": f"{len(cards)} x {name}" if cards else name, "driver": driver}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def gpus() -> list[str]:
    """Return name and driver of each GPU."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    return []


def processor() -> str:
    """Describe the processor of a machine without a GPU."""
    cpu = pathlib.Path("/proc/cpuinfo")
    said = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, no GPU"
