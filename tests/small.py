"""Every method at the size of tests: context 32, rows of 64 tokens."""

from longjax import methods
from longjax.methods import compose

T = 64
SMALL = {
    "base": methods.base(),
    "pi": methods.pi(4.0),
    "ntk_static": methods.ntk_static(4.0),
    "ntk_frozen": methods.ntk_frozen(2.0),
    "ntk_32k": methods.ntk_32k(reach=64),
    "ntk_64k": methods.ntk_64k(57.0),
    "ntk_64k_code": methods.ntk_64k_code(reach=128),
    "yarn": methods.yarn(4.0),
    "dynamic_yarn": methods.dynamic_yarn(),
    "clex": methods.clex(max_factor=8),
    "clex_rk4_peer": methods.clex_rk4_peer(max_factor=4),
    "longrope": methods.longrope(long_factor="1,2,3,4,5,6,7,8", short_factor="1,1,1,1,1,1,1,1"),
    "llama3": methods.llama3(factor=4.0),
    "theta": methods.theta(50_000.0),
    "alibi": methods.alibi(),
    "nope": methods.nope(),
    "lm_infinite": methods.lm_infinite(window=16, first=4),
    "lm_infinite_topk": methods.lm_infinite_topk(window=16, first=4, top_k=2, insert_at=8, from_layer=1),
    "streaming_llm": methods.streaming_llm(sinks=4, recent=12),
    "sliding_window": methods.sliding_window(16),
    "self_extend": methods.self_extend(16, 4),
    "self_extend_auto": methods.self_extend_auto(window=8),
    "self_extend_octaves": methods.self_extend_octaves(8),
    "rerope": methods.rerope(window=16),
    "leaky_rerope": methods.leaky_rerope(window=16, factor=4.0),
    "dca": methods.dca(),
    "longlora": methods.longlora(4.0),
    "longlora_sft": methods.longlora_sft(4.0, group=16),
    "landmark": methods.landmark(block=8, top_k=2),
}
COMPOSED = {
    "yarn x self_extend": compose(methods.yarn(4.0), methods.self_extend(16, 4)),
    "pi x s2": compose(methods.pi(4.0), methods.longlora(4.0)),
    "yarn x dca": compose(methods.yarn(4.0), methods.dca()),
    "alibi x lm_infinite": compose(methods.alibi(), methods.lm_infinite(window=16, first=4)),
}
ALL = SMALL | COMPOSED
