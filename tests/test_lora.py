"""LoRA beside its golden numbers (lora_kv2): what fresh adapters are, what is trained, what a merge leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from longjax.attention.core import TokenPositions
from longjax.checkpoints.param_mapping import to_hf
from longjax.config import LLAMA2_7B, TINY
from longjax.methods.longlora import longlora, lora_embedding_norm
from longjax.methods.lora import AXES, Lora, LoraInit, merge, weight_name
from longjax.methods.method import Method
from longjax.model.llama import Llama, global_shapes, layer_shapes

ALL = Lora(rank=4, alpha=2.0, names=tuple(AXES))


merged_with_all = jax.jit(functools.partial(merge, lora=ALL))


@functools.cache
def fresh():
    model, tokens = Llama(TINY, Method(init_params=LoraInit(ALL), adapt=ALL)), jnp.zeros((1, 8), jnp.int32)
    return jax.jit(lambda key: model.init(key, tokens, TokenPositions.whole(1, 8), 8)["params"])(jax.random.key(0))


def adapted(fill=None):
    """-> parameters of TINY with adapters on every projection; B zero, or filled."""
    params = fresh()
    layers = params["method"]["layers"]
    filled = {name: x if fill is None or "_a_" in name else jnp.full_like(x, fill) for name, x in layers.items()}
    return params | {"method": {"layers": filled}}


def test_fresh_adapters_change_nothing():
    params = adapted()
    for name, x in params["method"]["layers"].items():
        if "_b_" in name:
            assert (np.asarray(x) == 0).all()
        else:
            bound = np.prod(x.shape[1:-1]) ** -0.5
            assert 0.9 * bound < np.abs(x).max() <= bound, "uniform within 1 / sqrt(inputs)"
            np.testing.assert_allclose(np.std(x), bound / 3**0.5, rtol=0.1)  # 500 samples or more
    merged = merged_with_all(params)
    for name in map(weight_name, AXES):
        np.testing.assert_array_equal(merged[name], params[name])


def test_a_merged_weight_is_w_plus_scaled_product():
    params = adapted(fill=0.25)
    merged, own = merged_with_all(params), params["method"]["layers"]
    rank_sum = np.asarray(own["lora_o_a_NHR"]).sum(-1)[..., None]  # B is constant
    np.testing.assert_allclose(merged["o_NHD"], params["o_NHD"] + 2.0 / 4 * 0.25 * rank_sum, atol=1e-6)
    assert to_hf(merged, TINY).keys() == to_hf(params, TINY).keys()
    assert merged["method"] == {}


def test_a_base_in_bfloat16_is_added_to_in_float32():
    one = {name: x[0] for name, x in adapted(fill=0.25)["method"]["layers"].items()}
    shape = layer_shapes(TINY)["q_DNH"]
    assert Lora(4, 2.0, ("q",))({"q_DNH": jnp.zeros(shape, jnp.bfloat16)}, one)["q_DNH"].dtype == jnp.float32


def test_what_longlora_trains():
    """7B: 8.4 M in adapters, 131 M in the embedding, 0.27 M in norms; the output layer is frozen."""
    own = jax.eval_shape(lambda: longlora().init_params(jax.random.key(0), LLAMA2_7B))["layers"]
    sizes = {f"method/layers/{name}": x.size for name, x in own.items()}
    sizes |= {name: int(np.prod(shape)) for name, shape in global_shapes(LLAMA2_7B).items()}
    sizes |= {name: LLAMA2_7B.layers * int(np.prod(shape)) for name, shape in layer_shapes(LLAMA2_7B).items()}
    trained = {name: size for name, size in sizes.items() if lora_embedding_norm(name)}
    assert sum(size for name, size in trained.items() if "lora" in name) == 32 * 4 * 2 * 8 * 4096
    assert {name for name in trained if "lora" not in name} == {"embed_VD", "norm_D", "attn_norm_D", "ffn_norm_D"}
