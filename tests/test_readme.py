"""The README is short and true: its method obeys the laws, its commands and files exist."""

import re
import sys
import types

import jax
import numpy as np

from doc_pages import README, ROOT, blocks
from longjax.attention.core import TokenPositions
from longjax.model.llama import Llama
from test_laws import CFG, TOKENS, B, T, params

TEXT = README.read_text()
(EXAMPLE,) = (block for block in blocks(TEXT, "python") if "near_and_halved" in block)


def example():
    """-> the module that the README's method makes."""
    module = types.ModuleType("readme_example")
    sys.modules["readme_example"] = module  # dataclasses look themselves up
    exec(EXAMPLE, module.__dict__)
    return module


def test_the_method_decodes_as_it_reads():
    method = example().near_and_halved(16)
    model, p = Llama(CFG, method), params(method)
    run = jax.jit(lambda p, x, positions, cache: model.apply({"params": p}, x, positions, T, cache))
    whole, _ = run(p, TOKENS, TokenPositions.whole(B, T), None)
    cache, got = model.init_cache(B, T, T), []
    for start, stop in ((0, 40), *((n, n + 1) for n in range(40, T))):
        index_BT = np.broadcast_to(np.arange(start, stop), (B, stop - start))
        hidden, cache = run(p, TOKENS[:, start:stop], TokenPositions.at(jax.numpy.asarray(index_BT)), cache)
        got.append(hidden)
    np.testing.assert_allclose(np.concatenate(got, axis=1), whole, atol=3e-5)
    plain, _ = Llama(CFG).apply({"params": p}, TOKENS, TokenPositions.whole(B, T), T)
    assert np.abs(np.asarray(plain)[:, :16] - np.asarray(whole)[:, :16]).max() < 1e-5  # all within the window
    assert np.abs(np.asarray(plain) - np.asarray(whole)).max() > 1e-3


def test_the_method_is_short():
    code = [line for line in EXAMPLE.split("\n") if line.strip() and not line.startswith(("import", "from"))]
    assert len([line for line in code if '"""' not in line]) <= 15


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 160


def test_it_names_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "docs"):
        assert f"make {target}" in TEXT
        assert f"\n{target}:" in makefile


def test_it_maps_every_room():
    rooms = {path.parent.name for path in (ROOT / "longjax").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", TEXT, re.MULTILINE)) == rooms


def test_it_links_the_paper_then_the_differences():
    assert re.findall(r"\]\((.*?)\)", TEXT)[:2] == ["https://arxiv.org/abs/2409.12181", "docs/differences.md"]
