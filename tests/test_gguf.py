"""GGUF files, written here by the package gguf, against transformers and sentencepiece."""

import json

import gguf
import numpy as np
import pytest
import sentencepiece
import tokenizers
import transformers

from longjax.checkpoints import gguf_config, gguf_tokenizer, pretrained, safetensors
from longjax.checkpoints.gguf_files import open_gguf
from longjax.data.tokenizer import Tokenizer, train_tokenizer
from test_convert_tool import convert, refused

VOCAB, DIM, FFN, HEADS, KV_HEADS, LAYERS = 320, 64, 96, 4, 2, 2
TEXTS = [
    "", " ", "a", "  two\n\n three\t", "don't", "1234567 12 3", "na\u00efve \u4e2d\u6587 \U0001f600 \u00e9",
    "x=[1,2];  return x**2\r\n", "<|im_start|> and <think> stay what they are", "12,345.67 %", "\u00a0\u200b",
]  # fmt: skip
PROSE = (
    "The quick brown fox doesn't jump over 13 lazy dogs; 42 of them were naïve. " * 3 + "\n\n  def f(x): return x\n"
) * 40
Q = gguf.GGMLQuantizationType
SHAPES = {
    "attn_norm": (DIM,), "attn_q": (DIM, DIM), "attn_k": (DIM // 2, DIM), "attn_v": (DIM // 2, DIM),
    "attn_output": (DIM, DIM), "ffn_norm": (DIM,), "ffn_gate": (FFN, DIM), "ffn_up": (FFN, DIM), "ffn_down": (DIM, FFN),
}  # fmt: skip
QUANTS = {
    "attn_q": Q.Q4_1,
    "attn_k": Q.Q8_0,
    "attn_v": Q.F16,
    "attn_output": Q.Q5_0,
    "ffn_gate": Q.BF16,
    "ffn_up": Q.Q4_0,
}
BIASED = {"attn_q": DIM, "attn_k": DIM // 2, "attn_v": DIM // 2}  # of qwen2


def byte_level(words):
    """-> tokens and merges of a BPE that was trained with these words, and an added token of each kind."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = gguf_tokenizer.WORD_SPLITS[words].pre_tokenizer()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=VOCAB - 3, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([PROSE], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens += [f"<pad{i}>" for i in range(VOCAB - 3 - len(tokens))] + ["<|im_start|>", "<|im_end|>", "<think>"]
    return tokens, [" ".join(merge) for merge in model["merges"]]


def add_byte_level(writer, words):
    tokens, merges = byte_level(words)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (VOCAB - 3) + [3, 3, 4])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(VOCAB - 3)
    writer.add_eos_token_id(VOCAB - 2)
    writer.add_chat_template("{{ messages }}")


def write(path, architecture="llama", words="smollm", keys=(), tensors=(), tied=True):
    """Writes a tiny model; `keys` (name, value) and `tensors` (name, array) are added to it."""
    rng, writer = np.random.default_rng(0), gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    for name, value in keys:
        (writer.add_string if isinstance(value, str) else writer.add_float32)(f"{architecture}.{name}", value)
    add_byte_level(writer, words)
    shapes = {f"blk.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in SHAPES.items()}
    if architecture == "qwen2":
        shapes |= {f"blk.{n}.{name}.bias": (size,) for n in range(LAYERS) for name, size in BIASED.items()}
    shapes |= {"token_embd.weight": (VOCAB, DIM), "output_norm.weight": (DIM,)}
    for name, shape in (shapes | ({} if tied else {"output.weight": (VOCAB, DIM)})).items():
        x = rng.normal(0, 0.2, shape).astype(np.float32)
        kind = QUANTS.get(name.split(".")[-2], Q.Q8_0) if len(shape) > 1 else Q.F32
        writer.add_tensor(name, gguf.quantize(x, kind), raw_dtype=kind)
    for name, x, kind in tensors:
        writer.add_tensor(name, x, raw_dtype=kind)
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    return path


@pytest.mark.parametrize(("architecture", "words", "tied"), [("llama", "smollm", True), ("qwen2", "qwen2", False)])
def test_a_converted_file_is_what_transformers_reads(tmp_path, capsys, architecture, words, tied):
    """Weights in bfloat16 to the bit, ids of every text; and --verify compares the logits of both."""
    path, out = write(tmp_path / "x.gguf", architecture, words, tied=tied), tmp_path / "hf"
    convert(f"--from={path}", f"--out={out}", "--verify", "--dtype=float32")
    said = capsys.readouterr().out
    assert said.count("differ from transformers' by") == 2
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype="float32")
    want, got = model.state_dict(), safetensors.SafetensorsFolder(out)
    for name in got.shapes():
        np.testing.assert_array_equal(got.read(name), want[name].numpy(), err_msg=name)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = transformers.AutoTokenizer.from_pretrained(out)
    assert [ours.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
    assert (ours.bos_token, ours.eos_token) == (theirs.bos_token, theirs.eos_token)
    assert ours.chat_template == "{{ messages }}"
    decomposed, composed = (ours.encode(text) for text in ("e\u0301", "\u00e9"))
    assert (decomposed == composed) == (words == "qwen2")  # as its own tokenizer.json; transformers leaves that out


def test_rows_are_rows_of_the_whole(tmp_path):
    tensors = open_gguf(write(tmp_path / "x.gguf")).tensors
    for name, (rows, *_) in tensors.shapes().items():
        whole = tensors.read(name)
        assert (whole.shape, whole.dtype) == (tensors.shapes()[name], np.float32)
        for start, stop in ((0, 0), (0, 1), (rows // 3, rows - 1), (rows - 1, rows)):
            np.testing.assert_array_equal(tensors.read(name, slice(start, stop)), whole[start:stop])


def test_a_sentencepiece_vocabulary_gives_its_ids(tmp_path):
    """With the space that LLaMA puts before a text; spaces in a row, rare characters and line ends included."""
    train_tokenizer([type("D", (), {"text": PROSE})()], tmp_path / "x.model", vocab=410)
    pieces = sentencepiece.SentencePieceProcessor(str(tmp_path / "x.model"))
    ids = range(pieces.vocab_size())
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    ggml = {
        "tokens": [pieces.id_to_piece(i) for i in ids], "scores": [pieces.get_score(i) for i in ids],
        "token_type": kinds, "unknown_token_id": 0, "bos_token_id": 1, "model": "llama",
    }  # fmt: skip
    for prefix in (False, True):
        tokenizer, adds_bos = gguf_tokenizer.tokenizer_of(tmp_path, ggml | {"add_space_prefix": prefix})
        assert adds_bos
        for text in filter(None, TEXTS):
            ids = tokenizer.encode(text).ids
            assert ids == [1, *pieces.encode(" " + text if prefix else text)], text
            assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("factor", gguf_config.LLAMA3_FACTORS)
def test_llama3s_frequencies_are_recognized(tmp_path, factor):
    scaling = {"rope_type": "llama3", "factor": factor, **gguf_config.LLAMA3}
    plain = transformers.LlamaConfig(rope_theta=500_000.0, hidden_size=64, num_attention_heads=4, head_dim=16)
    scaled = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=4, head_dim=16, rope_parameters=scaling | {"rope_theta": 500_000.0}
    )
    init = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"]
    inv_freq_R, _ = init(scaled, "cpu")
    base_R = 1.0 / 500_000.0 ** (np.arange(0, 16, 2) / 16)
    factors_R = (base_R / inv_freq_R.numpy()).astype(np.float32)
    tensor = ("rope_freqs.weight", factors_R, Q.F32)
    checkpoint = open_gguf(write(tmp_path / "x.gguf", words="llama-bpe", tensors=[tensor]))
    assert checkpoint.config["rope_scaling"] == scaling
    assert plain.head_dim == 16


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "gemma"}, "the architecture 'gemma' is not supported: llama and qwen2 are"),
        ({"keys": [("attention.sliding_window", 4096.0)]}, "attention.sliding_window not supported"),
        ({"keys": [("rope.scaling.type", "longrope")]}, "rope.scaling.type='longrope' is not supported"),
        ({"keys": [("attention.value_length", 8.0)]}, "attention.value_length=8.0 beside heads of width 16"),
        (
            {"words": "gpt-2", "tensors": [("blk.0.ffn_gate_inp.weight", np.ones((2, DIM), "f4"), Q.F32)]},
            "ffn_gate_inp",
        ),
        (
            {"tensors": [("rope_freqs.weight", np.full(8, 3, "f4"), Q.F32)]},
            "rope_freqs.weight is not that of Llama 3.1",
        ),
        ({"tensors": [("output.weight", np.ones((VOCAB, DIM), "i4"), Q.I32)]}, "output.weight is of type I32"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=r"x\.gguf") as error:
        open_gguf(write(tmp_path / "x.gguf", **changes))
    assert said in str(error.value)


def test_unlucky_files_are_refused(tmp_path, capsys):
    path, out = write(tmp_path / "x.gguf"), f"--out={tmp_path / 'out'}"
    assert "is not a file" in refused(capsys, f"--from={tmp_path / 'no.gguf'}", out)
    assert "--adapter" in refused(capsys, f"--from={path}", out, f"--adapter={tmp_path}")
    whole = path.read_bytes()
    for torn in (b"", whole[:3], whole[:100], whole[: len(whole) // 2], b"GGUF" + bytes(60)):
        path.write_bytes(torn)
        assert "x.gguf is damaged" in refused(capsys, f"--from={path}", out)
    with pytest.raises(ValueError, match="must be converted first: longjax-convert"):
        pretrained.open_checkpoint(path)


def test_a_tokenizer_of_an_unknown_kind_is_refused(tmp_path):
    for ggml in ({"model": "gpt2", "pre": "tekken"}, {"model": "t5"}):
        with pytest.raises(ValueError, match=r"tokenizer\.ggml.* is not supported"):
            gguf_tokenizer.tokenizer_of(tmp_path / "x.gguf", ggml)


def test_our_tokenizer_reads_what_was_converted(tmp_path, capsys):
    convert(f"--from={write(tmp_path / 'x.gguf')}", f"--out={tmp_path / 'hf'}")
    assert Tokenizer(tmp_path / "hf").decode(Tokenizer(tmp_path / "hf").encode("13 dogs")) == "13 dogs"
