"""What config.json says, in all families; what it must not say; methods on bases that have a window or ALiBi."""

import dataclasses

import pytest

from longjax import methods
from longjax.checkpoints.config_from_hf import method_of, model_of, on_base
from longjax.methods.alibi import AlibiRope
from longjax.methods.method import full_attention, plain_rope
from longjax.methods.sliding_window import SlidingWindowAttention
from peers import peer

SIZES = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
}  # fmt: skip
MPT = {"model_type": "mpt", "vocab_size": 97, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}
MISTRAL = SIZES | {"model_type": "mistral"}
QWEN2 = SIZES | {"model_type": "qwen2", "num_key_value_heads": 4}


def attention_of(config):
    return method_of(config).attention


def test_keys_that_are_missing_mean_what_transformers_takes():
    llama = model_of(SIZES)
    assert (llama.kv_heads, llama.norm_eps, llama.trained_len, llama.rope_base, llama.tied) == (
        4,
        1e-6,
        2048,
        1e4,
        False,
    )
    mistral = model_of(MISTRAL | {"num_attention_heads": 8})
    assert (mistral.kv_heads, mistral.norm_eps, mistral.trained_len) == (8, 1e-6, 131_072)
    phi = model_of(SIZES | {"model_type": "phi"})
    assert (phi.act, phi.rotary_fraction, phi.norm_eps, phi.trained_len) == ("gelu_tanh", 0.5, 1e-5, 2048)
    mpt = model_of(MPT)
    assert (mpt.ffn, mpt.tied, mpt.act, mpt.biases, mpt.norm_eps, mpt.trained_len) == (256, True, "gelu", (), 1e-5, 256)
    assert mpt.rotary_dim == 0


def test_defaults_are_those_of_transformers():
    transformers = peer("transformers")
    for kind in ("llama", "mistral", "qwen2", "phi"):
        written = transformers.AutoConfig.for_model(kind, **SIZES, num_key_value_heads=4).to_dict()
        ours = model_of(SIZES | {"model_type": kind, "num_key_value_heads": 4})
        assert dataclasses.replace(model_of(written), head_width=None) == ours
        assert method_of(written) == method_of(SIZES | {"model_type": kind})
    assert model_of(transformers.AutoConfig.for_model(**MPT).to_dict()) == model_of(MPT)


def test_windows():
    assert attention_of(MISTRAL) == SlidingWindowAttention(4096)  # a missing key is not null
    assert attention_of(MISTRAL | {"sliding_window": None}) is full_attention
    assert attention_of(MISTRAL | {"sliding_window": 16}) == SlidingWindowAttention(16)
    assert attention_of(QWEN2 | {"sliding_window": 16}) is full_attention
    used = QWEN2 | {"sliding_window": 16, "use_sliding_window": True}
    assert attention_of(used) is full_attention  # only from layer 28 on
    assert attention_of(used | {"max_window_layers": 0}) == SlidingWindowAttention(16)
    assert attention_of(used | {"layer_types": ["sliding_attention"] * 2}) == SlidingWindowAttention(16)
    for some in ({"max_window_layers": 1}, {"layer_types": ["full_attention", "sliding_attention"]}):
        with pytest.raises(ValueError, match="a sliding window in some layers only"):
            attention_of(used | some)


def test_rope_and_window_are_both_heard():
    rope = {"rope_scaling": {"type": "linear", "factor": 4.0}}
    assert method_of(MISTRAL | rope) == dataclasses.replace(methods.pi(4.0), attention=SlidingWindowAttention(4096))


def test_alibi():
    assert method_of(MPT) == methods.alibi()
    asked = {"attn_config": {"alibi_bias_max": 16, "softmax_scale": 0.5}}
    assert method_of(MPT | asked) == methods.Method(rope=AlibiRope(16.0, 0.5))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (SIZES | {"model_type": "gpt2"}, "unknown model_type 'gpt2'"),
        ({"vocab_size": 3}, "config.json has no 'num_attention_heads'"),
        (SIZES | {"hidden_act": "relu2"}, "hidden_act='relu2' is not supported"),
        (SIZES | {"model_type": "phi", "qk_layernorm": True}, "qk_layernorm=True is not supported"),
        (MPT | {"attn_config": {"alibi": False}}, "alibi=False is not supported, only True"),
        (MPT | {"attn_config": {"qk_ln": True}}, "qk_ln=True"),
        (MPT | {"attn_config": {"prefix_lm": True}}, "prefix_lm=True"),
        (MPT | {"attn_config": {"attn_type": "multiquery_attention"}}, "attn_type='multiquery_attention'"),
        (MPT | {"logit_scale": "inv_sqrt_d_model"}, "logit_scale='inv_sqrt_d_model'"),
        (MPT | {"norm_type": "rmsnorm"}, "norm_type='rmsnorm'"),
    ],
)
def test_what_we_have_not_is_refused(config, match):
    with pytest.raises(ValueError, match=match):
        model_of(config)


def test_unknown_rope_is_refused():
    with pytest.raises(ValueError, match=r"unknown rope type 'mystery'"):
        method_of(MISTRAL | {"rope_parameters": {"rope_type": "mystery"}})


WINDOWED = method_of(MISTRAL | {"sliding_window": 16})
ALIBI = method_of(MPT)


def test_a_position_method_keeps_the_base_s_window():
    windowed = dataclasses.replace(methods.pi(4.0), attention=SlidingWindowAttention(16))
    assert on_base(methods.pi(4.0), WINDOWED) == windowed


def test_an_attention_method_keeps_the_base_s_positions():
    method = on_base(methods.lm_infinite(window=16, first=4), ALIBI)
    assert method.rope == AlibiRope()
    assert method.attention == methods.lm_infinite(window=16, first=4).attention
    llama31 = methods.llama3(8.0)
    assert on_base(methods.self_extend(16, 4), llama31).rope == llama31.rope


def test_what_a_method_changes_is_its_own():
    assert on_base(methods.streaming_llm(sinks=4, recent=12), WINDOWED) == methods.streaming_llm(sinks=4, recent=12)
    assert on_base(methods.pi(4.0), methods.llama3(8.0)) == methods.pi(4.0)


def test_the_base_method_is_the_checkpoint_as_it_is():
    for base in (WINDOWED, ALIBI, methods.llama3(8.0)):
        method = on_base(methods.base(), base)
        assert (method.rope, method.attention) == (base.rope, base.attention)


@pytest.mark.parametrize("name", [name for name in methods.METHODS if name not in ("longrope",)])
def test_only_methods_without_rotation_go_with_alibi(name):
    method = methods.METHODS[name]()
    if method.rope is plain_rope or name in ("alibi", "nope"):
        assert on_base(method, ALIBI).attention == method.attention
    else:
        with pytest.raises(ValueError, match="--method rescales rotation"):
            on_base(method, ALIBI)
