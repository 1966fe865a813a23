"""Draws the figures of docs/methods from the methods themselves: python docs/draw_methods.py."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from longjax import methods
from longjax.attention.branched import BranchedAttention
from longjax.config import LLAMA2_7B, TINY, ModelConfig
from longjax.methods import Method
from longjax.report.plotting.style import STYLE, plt, save

FIGURES = pathlib.Path(__file__).parent / "figures"
LENGTH = 64  # tokens in the figure of distances
SMALL = dataclasses.replace(TINY, trained_len=16)
DISTANCES: dict[str, Method] = {
    "base": methods.base(),
    "pi, factor 4": methods.pi(4.0),
    "lm_infinite": methods.lm_infinite(first=3),
    "streaming_llm": methods.streaming_llm(sinks=3),
    "longlora (training)": methods.longlora(factor=1.0),
    "self_extend": methods.self_extend(window=8, group=8),
    "self_extend_octaves": methods.self_extend_octaves(window=4),
    "rerope": methods.rerope(window=12),
    "leaky_rerope": methods.leaky_rerope(window=8, factor=8.0),
    "dca": methods.dca(),
}
FREQUENCIES: dict[str, Method] = {
    "pi": methods.pi(8.0), "yarn": methods.yarn(8.0), "llama3": methods.llama3(8.0), "ntk_32k": methods.ntk_32k(),
    "ntk_64k": methods.ntk_64k(), "theta": methods.theta(), "clex": methods.clex(),
}  # fmt: skip


def inv_freq(method: Method, cfg: ModelConfig, length: int) -> np.ndarray:
    """Returns the method's radians per token of each pair."""
    params = method.init_params(jax.random.key(0), cfg)
    return np.asarray(method.rope(cfg, length, params, None).inv_freq_R, np.float64)


def distance(method: Method, cfg: ModelConfig, length: int) -> np.ndarray:
    """Returns distance_TS at which the last head's query sees a key, by the base's frequencies; NaN: it does not."""
    attention = (method.attention_train or method.attention)(cfg, length)
    assert isinstance(attention, BranchedAttention)
    index_T = jnp.arange(length, dtype=jnp.int32)
    squeezed = (inv_freq(methods.base(), cfg, length) / inv_freq(method, cfg, length)).max()
    distance_TS = np.full((length, length), np.nan)
    for branch in attention.branches:
        low_T, high_T = branch.interval(index_T, np.asarray(cfg.heads - 1))
        seen_TS = (low_T[:, None] <= index_T) & (index_T < high_T[:, None])
        query_T, key_S = (at(index_T.astype(jnp.float32)) for at in (branch.query_position, branch.key_position))
        distance_TS = np.where(seen_TS, (query_T[:, None] - key_S) / squeezed, distance_TS)
    return distance_TS


def draw_distances() -> None:
    """Draws the distance at which each query sees each key, a panel a method."""
    figure, axes = plt.subplots(2, 5, figsize=(11, 4.8), layout="constrained")
    colors, image = plt.get_cmap("viridis").with_extremes(over="#d55e00"), None
    for axis, (name, method) in zip(axes.flat, DISTANCES.items(), strict=True):
        distance_TS = distance(method, SMALL, LENGTH)
        image = axis.imshow(distance_TS, vmin=0, vmax=SMALL.trained_len, cmap=colors, interpolation="nearest")
        axis.set_title(name)
        axis.set(xticks=[0, 16, 32, 48], yticks=[0, 16, 32, 48])
        axis.grid(visible=False)
    axes[1, 0].set(xlabel="key", ylabel="query")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="max", label="distance at which the key is seen")
    bar.set_ticks([0, 4, 8, 12, SMALL.trained_len])
    save(figure, FIGURES / "distances.png")


def draw_frequencies() -> None:
    """Draws by how much each method stretches the wavelength of each pair."""
    cfg = LLAMA2_7B
    base_R = inv_freq(methods.base(), cfg, 8 * cfg.trained_len)
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    axis.axvline(np.searchsorted(-base_R, -2 * np.pi / cfg.trained_len), color="#8a8a8a", linestyle="--", linewidth=1)
    for name, method in FREQUENCIES.items():
        longer_R = base_R / inv_freq(method, cfg, 8 * cfg.trained_len)
        axis.plot(longer_R, "--" if name == "clex" else "-", label=name)
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.set(xlabel="pair, from the fastest to the slowest", ylabel="wavelength / the base model's", xlim=(0, 63))
    axis.legend(ncols=2)
    save(figure, FIGURES / "frequencies.png")


if __name__ == "__main__":
    with plt.rc_context(STYLE):
        draw_distances()
        draw_frequencies()
