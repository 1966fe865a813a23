"""The README's example of a method runs, and obeys the laws."""

import pathlib
import re
import sys
import types

import jax
import numpy as np

from longjax.attention.core import TokenPositions
from longjax.model.llama import Llama
from test_laws import CFG, TOKENS, B, T, params

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def example():
    """-> the module that the README's first Python block makes."""
    module = types.ModuleType("readme_example")
    sys.modules["readme_example"] = module  # dataclasses look themselves up
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], module.__dict__)
    return module


def test_the_example_decodes_as_it_reads():
    method = example().near_and_halved(16)
    model, p = Llama(CFG, method), params(method)
    run = jax.jit(lambda p, x, where, memory: model.apply({"params": p}, x, where, T, memory))
    whole, _ = run(p, TOKENS, TokenPositions.whole(B, T), None)
    memory, got = model.init_cache(B, T, T), []
    for start, stop in ((0, 40), *((n, n + 1) for n in range(40, T))):
        index_BT = np.broadcast_to(np.arange(start, stop), (B, stop - start))
        hidden, memory = run(p, TOKENS[:, start:stop], TokenPositions.at(jax.numpy.asarray(index_BT)), memory)
        got.append(hidden)
    np.testing.assert_allclose(np.concatenate(got, axis=1), whole, atol=3e-5)
    plain, _ = Llama(CFG).apply({"params": p}, TOKENS, TokenPositions.whole(B, T), T)
    assert np.abs(np.asarray(plain)[:, :16] - np.asarray(whole)[:, :16]).max() < 1e-5  # all within the window
    assert np.abs(np.asarray(plain) - np.asarray(whole)).max() > 1e-3


def test_the_example_is_short():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    code = [line for line in block.split("\n") if line.strip() and not line.startswith(("import", "from"))]
    assert len([line for line in code if '"""' not in line]) <= 15


def test_the_readme_names_its_commands_and_files():
    root = pathlib.Path(__file__).parent.parent
    assert "make demo" in README
    assert "make test" in README
    for path in re.findall(r"`(longjax/[a-z_/]+\.py)`", README):
        assert (root / path).exists(), path
