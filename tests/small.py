"""Every method at the size of tests: context 32, rows of 64 tokens."""

from longjax import methods as M
from longjax.methods import compose

T = 64
SMALL = {
    "base": M.base(),
    "pi": M.pi(4.0),
    "ntk_static": M.ntk_static(4.0),
    "ntk_frozen": M.ntk_frozen(2.0),
    "ntk_32k": M.ntk_32k(reach=64),
    "ntk_64k": M.ntk_64k(57.0),
    "ntk_64k_code": M.ntk_64k_code(reach=128),
    "yarn": M.yarn(4.0),
    "dynamic_yarn": M.dynamic_yarn(),
    "clex": M.clex(max_factor=8),
    "clex_rk4_peer": M.clex_rk4_peer(max_factor=4),
    "longrope": M.longrope(long_factor="1,2,3,4,5,6,7,8", short_factor="1,1,1,1,1,1,1,1"),
    "llama3": M.llama3(factor=4.0),
    "theta": M.theta(50_000.0),
    "alibi": M.alibi(),
    "nope": M.nope(),
    "lm_infinite": M.lm_infinite(window=16, first=4),
    "lm_infinite_topk": M.lm_infinite_topk(window=16, first=4, top_k=2, insert_at=8, from_layer=1),
    "streaming_llm": M.streaming_llm(sinks=4, recent=12),
    "sliding_window": M.sliding_window(16),
    "self_extend": M.self_extend(16, 4),
    "self_extend_auto": M.self_extend_auto(window=8),
    "self_extend_octaves": M.self_extend_octaves(8),
    "rerope": M.rerope(window=16),
    "leaky_rerope": M.leaky_rerope(window=16, factor=4.0),
    "dca": M.dca(),
    "longlora": M.longlora(4.0),
    "longlora_sft": M.longlora_sft(4.0, group=16),
    "landmark": M.landmark(block=8, top_k=2),
}
COMPOSED = {
    "yarn x self_extend": compose(M.yarn(4.0), M.self_extend(16, 4)),
    "pi x s2": compose(M.pi(4.0), M.longlora(4.0)),
    "yarn x dca": compose(M.yarn(4.0), M.dca()),
    "alibi x lm_infinite": compose(M.alibi(), M.lm_infinite(window=16, first=4)),
}
ALL = SMALL | COMPOSED
