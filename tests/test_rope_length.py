"""Growth of frequencies, learning rates, configurations of Hugging Face."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from golden_checks.rerotate import rerotate
from longjax.attention.kv_cache import KVCache
from longjax.attention.rope import rotate
from longjax.checkpoints import config_from_hf
from longjax.config import LLAMA2_7B, TINY
from longjax.inference import rope_length
from longjax.methods.longrope import longrope
from longjax.methods.ntk import ntk_32k, ntk_base, ntk_frozen
from longjax.methods.yarn import dynamic_yarn
from longjax.training import schedules


def rope_of(method, length, cfg=LLAMA2_7B, own=None):
    return method.rope(cfg, length, own or {}, None)


@pytest.mark.parametrize(
    ("policy", "used"),
    [
        (rope_length.stateless, [20, 80, 40, 32, 20]),
        (rope_length.sticky, [32, 80, 80, 80, 80]),
        (rope_length.sticky_with_reset, [32, 80, 80, 80, 32]),
    ],
)
def test_lengths_used(policy, used):
    assert list(rope_length.lengths_used(policy, [20, 80, 40, 32, 20], 32)) == used


@pytest.mark.parametrize("method", [ntk_frozen(4.0), dynamic_yarn()], ids=["ntk", "yarn"])
@pytest.mark.parametrize("layers", [(), (2,)])
def test_rerotated_keys_are_as_if_rotated_anew(method, layers):
    """Two rotations round twice: 6e-8 of angles up to 50, and of the keys."""
    old, new = rope_of(method, 40, TINY), rope_of(method, 128, TINY)
    k_BWKH = jax.random.normal(jax.random.key(0), (1, 50, 2, 16))
    index_BW = jnp.arange(50, dtype=jnp.int32)[None]

    def stacked(x):
        return jnp.broadcast_to(x, layers + x.shape)

    def store(rope):
        k = stacked(rotate(k_BWKH, index_BW.astype(jnp.float32), rope))
        return KVCache(k, k, stacked(index_BW), stacked(0 * index_BW))

    assert np.max(np.abs(store(old).k_BWKH - store(new).k_BWKH)) > 0.1
    np.testing.assert_allclose(rerotate(store(old), old, new).k_BWKH, store(new).k_BWKH, atol=4 * 2 * 50 * 6e-8)


def test_schedules_run_inside_jit_and_meet_their_corners():
    made = {
        "constant": (schedules.constant(1.0, 10), {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
        "cosine": (schedules.cosine(1.0, 110, 10, floor=0.1), {0: 0.0, 10: 1.0, 60: 0.55, 110: 0.1, 200: 0.1}),
        "linear": (schedules.linear(1.0, 110, 10), {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0}),
        "log": (schedules.log_warmup(1.0, 16), {0: 1.0, 1: 0.0, 4: 0.5, 16: 1.0, 99: 1.0}),
        "log decay": (schedules.log_warmup_decay(1.0, 116, 16), {0: 1.0, 4: 0.5, 16: 1.0, 67: 0.5, 117: 0.0}),
    }
    for name, (schedule, corners) in made.items():
        got = jax.jit(jax.vmap(schedule))(jnp.asarray(list(corners)))
        np.testing.assert_allclose(got, list(corners.values()), atol=1e-6, err_msg=name)
    assert optax.sgd(made["cosine"][0]).init({"x": jnp.zeros(2)})


def test_ntk_32k_survives_hugging_face():
    """As exported: base and factor re-expressed. The same frequencies at every length of the paper."""
    a0, s, reach = 29.0, 4.0, 32_768
    rope = {"rope_type": "dynamic", "rope_theta": ntk_base(LLAMA2_7B, a0), "factor": (s * reach / 4096) / a0}
    config = {"rope_parameters": rope, "max_position_embeddings": reach}
    method = config_from_hf.method_of(config)
    cfg = dataclasses.replace(LLAMA2_7B, rope_base=rope["rope_theta"], trained_len=config_from_hf.trained_len(config))
    for length in (2**n for n in range(11, 18)):
        theirs, ours = rope_of(method, length, cfg), rope_of(ntk_32k(), length)
        np.testing.assert_allclose(theirs.inv_freq_R, ours.inv_freq_R, rtol=2e-7)


def test_configurations_of_hugging_face():
    llama = {
        "model_type": "llama", "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 96, "rms_norm_eps": 1e-5, "max_position_embeddings": 32,
    }  # fmt: skip
    assert dataclasses.replace(config_from_hf.model_of(llama), dtype="float32") == TINY
    with pytest.raises(ValueError, match=r"unknown rope type 'mystery'.*yarn"):
        config_from_hf.method_of({"rope_scaling": {"type": "mystery"}})
    with pytest.raises(ValueError, match=r"unknown model_type 'gpt2'.*llama"):
        config_from_hf.model_of({"model_type": "gpt2"})
    with pytest.raises(ValueError, match="'linear' needs 'factor'"):
        config_from_hf.method_of({"rope_scaling": {"type": "linear"}})
    su = {"type": "su", "short_factor": [1.0], "long_factor": [2.0], "factor": 4.0}
    assert config_from_hf.method_of({"rope_scaling": su}) == longrope("1.0", "2.0", 4.0)
