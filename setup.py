"""What is installed: the package, its data, its commands and its extras."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.findall('^__version__ = "(.+)"$', (ROOT / "longjax" / "__init__.py").read_text(), re.MULTILINE)[0]
COMMANDS = ("convert", "evaluate", "plan", "prepare-data", "report", "study", "train")

EXTRAS = {
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff>=0.14",
        "basedpyright>=1.30",
        "setuptools>=77",
        "jieba",
        "hypothesis",
    ],
    "parity": ["torch==2.13.0", "transformers>=5", "accelerate"],  # live comparison with Hugging Face, in tests
    "harness": ["lm_eval>=0.4.12"],  # short tasks
    "zh": ["jieba"],  # words of Chinese answers
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1"],
    "gguf": ["gguf>=0.17"],  # files of llama.cpp
    "gpu": ["jax[cuda13]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],  # also for longjax-plan, which compiles for TPUs without having one
}
EXTRAS["dev"] = [package for extra in ("test", "parity", "harness", "docs", "gguf", "tpu") for package in EXTRAS[extra]]

setup(
    name="longjax",
    version=VERSION,
    description="Context extension of LLaMA-family models, compared under control, in JAX",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["longjax", "longjax.*"]),
    package_data={
        "longjax": ["bases/*.md", "bases/*/*"],
        "longjax.evals.wordlists": ["*.txt"],
        "longjax.evals.synthetic": ["*.json"],
    },
    entry_points={
        "console_scripts": [f"longjax-{name} = longjax.cli.{name.replace('-', '_')}:main" for name in COMMANDS]
    },
    install_requires=[
        "jax>=0.10",
        "flax>=0.12",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.11",
        "datasets>=3",
        "sentencepiece>=0.2",
        "tokenizers>=0.20",
        "numpy>=2",
        "absl-py>=2",
        "matplotlib>=3.9",
    ],
    extras_require=EXTRAS,
)
