import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from longjax.attention.core import TokenPositions
from longjax.checkpoints.param_mapping import from_hf, to_hf
from longjax.config import LLAMA2_7B, TINY
from longjax.inference.score import Scorer
from longjax.methods import Method, pi
from longjax.methods.ntk import ntk_frozen
from longjax.methods.yarn import yarn
from longjax.model.llama import Llama, logits
from peers import peer
from shape_names import checked

T = 64
TOKENS = np.random.default_rng(0).integers(0, TINY.vocab, (2, T)).astype(np.int32)


def random_params(method=Method(), cfg=TINY):
    """Queries and keys wide enough that attention is far from uniform."""
    model = Llama(cfg, method)
    params = jax.jit(lambda key: model.init(key, jnp.zeros((1, 8), jnp.int32), TokenPositions.whole(1, 8), 8)["params"])
    return {name: x * 2 if name in ("q_DNH", "k_DKH") else x for name, x in params(jax.random.key(0)).items()}


def forward(params, method, tokens=TOKENS, cfg=TINY):
    B, T = tokens.shape
    run = jax.jit(lambda p, x: logits(p, Llama(cfg, method).apply({"params": p}, x, TokenPositions.whole(B, T), T)[0]))
    return np.asarray(run(params, tokens))


def hugging_face(**config):
    torch = peer("torch")
    transformers = peer("transformers")
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=TINY.vocab, hidden_size=TINY.dim, intermediate_size=TINY.ffn, num_hidden_layers=TINY.layers,
            num_attention_heads=TINY.heads, num_key_value_heads=TINY.kv_heads, rms_norm_eps=TINY.norm_eps,
            initializer_range=0.1, attn_implementation="eager", **config,
        )
    )  # fmt: skip
    for name, x in model.named_parameters():
        if "norm" in name:
            x.data.uniform_(0.5, 1.5)
    with torch.no_grad():
        want = model.eval()(torch.tensor(TOKENS.astype(np.int64))).logits.numpy()
    return want, {name: x.numpy() for name, x in model.state_dict().items()}


@pytest.mark.parametrize(
    ("method", "rope"),
    [
        (Method(), None),
        (pi(4.0), {"rope_type": "linear", "factor": 4.0}),
        (ntk_frozen(4.0), {"rope_type": "dynamic", "factor": 4.0}),
        (yarn(4.0), {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    ],
    ids=["base", "pi", "ntk_frozen", "yarn"],
)
def test_same_logits_as_hugging_face(method, rope):
    config = {} if rope is None else {"rope_parameters": rope | {"rope_theta": 10000.0}}
    want, state = hugging_face(max_position_embeddings=128 if rope and rope["rope_type"] == "yarn" else 32, **config)
    # 2e-5: fp32 sums in another order, on logits of magnitude about 5
    np.testing.assert_allclose(forward(from_hf(state, TINY), method), want, atol=2e-5)


def test_to_hugging_face_and_back_is_exact():
    params = jax.tree.map(np.asarray, random_params())
    again = from_hf(to_hf(params, TINY), TINY)
    assert again.keys() == params.keys()
    for name in params:
        np.testing.assert_array_equal(again[name], params[name])


def test_a_missing_or_misshapen_tensor_is_named():
    state = to_hf(jax.tree.map(np.asarray, random_params()), TINY)
    with pytest.raises(ValueError, match=r"layers\.1\.self_attn\.k_proj\.weight"):
        from_hf({n: x for n, x in state.items() if n != "model.layers.1.self_attn.k_proj.weight"}, TINY)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight has shape \(3, 3\)"):
        from_hf(state | {"model.embed_tokens.weight": np.zeros((3, 3))}, TINY)


def test_llama2_7b_has_its_known_size():
    one = jnp.zeros((1, 8), jnp.int32)
    shapes = jax.eval_shape(
        lambda key: Llama(LLAMA2_7B).init(key, one, TokenPositions.whole(1, 8), 8), jax.random.key(0)
    )
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == 6_738_415_616


def test_score_agrees_with_the_logits():
    params, method = random_params(), ntk_frozen(2.0)
    nll_BT, hit_BT = Scorer(Llama(TINY, method), params)(TOKENS, np.array([T, T]))
    x = forward(params, method)
    want = jax.nn.logsumexp(x[:, :-1], axis=-1) - np.take_along_axis(x[:, :-1], TOKENS[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(nll_BT[:, 1:], want, atol=1e-5)
    np.testing.assert_array_equal(hit_BT[:, 1:], x[:, :-1].argmax(-1) == TOKENS[:, 1:])
    assert (nll_BT[:, 0] == 0).all()


def test_a_short_row_scores_as_if_alone():
    params, method = random_params(), ntk_frozen(2.0)  # frequencies depend on the length
    score = Scorer(Llama(TINY, method), params)
    both, _ = score(TOKENS, np.array([T, 40]))
    alone, _ = score(TOKENS[1:, :40], np.array([40]))
    np.testing.assert_allclose(both[1, :40], alone[0], atol=1e-6)
    assert (both[1, 40:] == 0).all()


def test_bfloat16_stays_close():
    params = random_params()
    low = forward(params, Method(), cfg=dataclasses.replace(TINY, dtype="bfloat16"))
    high = forward(params, Method())
    assert np.abs(low - high).mean() / np.abs(high).mean() < 0.05  # bfloat16 has 8 bits; 2 layers


def test_array_names_are_their_shapes():
    method = Method()
    with checked("/longjax/") as seen:
        model = Llama(TINY, method)
        model.apply({"params": random_params()}, TOKENS, TokenPositions.whole(2, T), T)
    assert len(seen) > 20


def test_the_check_of_array_names_fails_for_wrong_ones():
    from longjax.attention import rope

    with pytest.raises(AssertionError, match="x_BTNH has shape"), checked("/longjax/"):
        rope.rotate(jnp.ones((2, 3, 4)), jnp.ones((2, 3)), rope.Rope(jnp.ones(2)))
