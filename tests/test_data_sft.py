"""Conversations: the text of the template, and weights on answers and their ends alone."""

import json
import pathlib

import numpy as np
import pytest
import tokenizers as T

from longjax import data
from longjax.data import documents, passkey_text
from longjax.data.documents import Fields
from longjax.data.sft import TEMPLATES, Chat, Message, messages_of
from longjax.data.tokenizer import Tokenizer, split_lines

MODEL = pathlib.Path(__file__).parent.parent / "longjax" / "bases" / "mini" / "tokenizer.model"
SAID = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Who are you? "},
    {"role": "assistant", "content": "A model."}, {"role": "user", "content": "And I?"},
    {"role": "assistant", "content": "A user.\n\nPerhaps caf\u00e9."},
]  # fmt: skip
# As the families' own chat templates write it; what is learned stands in {{ }}.
EXPECTED = {
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWho are you? [/INST]{{ A model.</s>}}"
              "<s>[INST] And I? [/INST]{{ A user.\n\nPerhaps caf\u00e9.</s>}}",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n{{A model.<|eot_id|>}}"
              "<|start_header_id|>user<|end_header_id|>\n\nAnd I?<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n{{A user.\n\nPerhaps caf\u00e9.<|eot_id|>}}",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n"
              "<|im_start|>assistant\n{{A model.<|im_end|>}}\n<|im_start|>user\nAnd I?<|im_end|>\n"
              "<|im_start|>assistant\n{{A user.\n\nPerhaps caf\u00e9.<|im_end|>}}",
}  # fmt: skip
SPECIAL = {
    "llama2": ["<s>", "</s>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "chatml": ["<|im_start|>", "<|im_end|>"],
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """-> a function that trains a tokenizer.json with special tokens. Merges cross line ends, as Llama-3's."""

    def made(special):
        tokenizer = T.Tokenizer(T.models.BPE())
        tokenizer.pre_tokenizer = T.pre_tokenizers.Sequence([
            T.pre_tokenizers.Split(T.Regex(r" ?\w+|\s*[\r\n]+|\s+(?!\S)|[^\s\w]+|\s+"), "isolated"),
            T.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
        tokenizer.decoder = T.decoders.ByteLevel()
        words = ["Who are you? And I? A model. A user.\n\n", "  \n\n", ".\n\n"] * 9
        letters = T.pre_tokenizers.ByteLevel.alphabet()
        trainer = T.trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, special_tokens=special)
        tokenizer.train_from_iterator(words, trainer)
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        tokenizer.save(str(path))
        return path

    return made


@pytest.mark.parametrize("template", EXPECTED)
def test_a_conversation_is_what_its_template_says(template, make):
    tokenizer = Tokenizer(make(SPECIAL[template]))
    TEMPLATES[template].check(tokenizer, "--template")
    ids, mask = Chat(template)(tokenizer, {"messages": SAID})
    assert tokenizer.decode(ids) == EXPECTED[template].replace("{{", "").replace("}}", "")
    parts = [part.partition("}}")[0] for part in EXPECTED[template].split("{{")[1:]]
    learned = np.split(ids, np.flatnonzero(np.diff(mask)) + 1)[1::2]
    assert [tokenizer.decode(x) for x in learned] == parts
    assert mask.dtype == np.uint8
    assert set(mask) == {0, 1}


@pytest.mark.parametrize("name", ["mini", "spaces"])
def test_llama2_by_sentencepiece(name, spaces):
    """One text a turn, as the authors encode it: the answer's first word has its own space, whatever the model adds."""
    tokenizer = Tokenizer(MODEL) if name == "mini" else spaces
    ids, mask = Chat("llama2")(tokenizer, {"prompt": "Who are you?", "completion": "A model."})
    whole = tokenizer.backend.encode(["[INST] Who are you? [/INST] A model."])[0]
    assert ids.tolist() == [tokenizer.bos_id, *whole, tokenizer.eos_id]
    assert tokenizer.decode(ids[mask == 1]).strip() == "A model."
    assert tokenizer.decode(ids[mask == 0]) == "[INST] Who are you? [/INST]"
    assert (ids[-1], mask[-1]) == (tokenizer.eos_id, 1)


def test_prompt_and_completion_are_messages():
    assert messages_of({"prompt": " a ", "completion": "b"}) == [Message("user", "a"), Message("assistant", "b")]
    for record, words in {
        '{"text": "x"}': "without messages", '{"messages": ["x"]}': "that are not text",
        '{"messages": [{"role": "user", "content": null}]}': "that are not text",
        '{"messages": [{"role": "tool", "content": "x"}]}': "with roles beside",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=words):
            messages_of(json.loads(record))


def test_a_template_needs_its_tokens(make, tmp_path):
    tokenizer = Tokenizer(make(SPECIAL["chatml"]))
    with pytest.raises(
        ValueError, match=r"--template=llama3 needs the tokens <\|begin_of_text\|> <\|start_header_id\|>"
    ):
        TEMPLATES["llama3"].check(tokenizer, "--template=llama3")
    with pytest.raises(ValueError, match="--template=llama2 needs the tokens <s> </s>, which"):
        TEMPLATES["llama2"].check(tokenizer, "--template=llama2")


def test_only_answers_are_learned_and_no_conversation_is_cut(tmp_path):
    """From the file to the rows."""
    rng, tokenizer = np.random.default_rng(0), Tokenizer(MODEL)
    records = [{"prompt": f"What is {i}?", "completion": "x " * int(rng.integers(1, 30))} for i in range(60)]
    records += [{"prompt": "no answer"}, {"messages": SAID[:2]}, {"prompt": "too long", "completion": "y " * 200}]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(x) + "\n" for x in records))
    store = data.tokenize(
        tmp_path / "store", documents.find_inputs([f"chat:{tmp_path}/chat.jsonl"]), Fields(chat=True), tokenizer,
        Chat("llama2"), held_out=0.0, shard=500, skip_bad=True,
    )  # fmt: skip
    assert {why: n for why, (n, _) in store.manifest["skipped"].items()} == {
        "without messages, or prompt and completion": 1, "without an answer": 1
    }  # fmt: skip
    store = data.open_store(tmp_path / "store", tokenizer, verify=True)
    assert len(store.masks) == len(store.shards) > 2
    plan = data.pack(store, data.select_all(store), data.Whole(), 128, doc_mask=True)
    assert plan.metadata["dropped_documents"] == 1
    rows = plan.rows(np.arange(len(plan)))
    seen = 0
    for row, weights, start in zip(*rows, strict=True):
        answers = np.split(row[1:], np.flatnonzero(np.diff(weights)) + 1)[int(weights[0] == 0) :: 2]
        answers = answers if weights[-1] or len(answers) else []
        for ids in answers:
            if ids[-1] != tokenizer.eos_id:
                continue
            assert set(tokenizer.decode(ids[:-1]).split()) == {"x"}
            seen += 1
        assert (row[start] == tokenizer.bos_id)[: np.flatnonzero(weights)[-1]].all()  # whole conversations
    assert seen == 60
    (tmp_path / "store" / "mask-00001.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"mask-00001\.bin does not match its manifest"):
        data.open_store(tmp_path / "store")


# Groups of lines.


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """A tokenizer like LLaMA's: a space before every text, and lines' ends are bytes."""
    import sentencepiece

    path = tmp_path_factory.mktemp("spaces") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the model said that a user asked who they are , and why ."] * 50),
        model_prefix=str(path), model_type="bpe", vocab_size=330, byte_fallback=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        split_digits=True, required_chars="0123456789",
    )  # fmt: skip
    return Tokenizer(path.with_suffix(".model"))


TEXT = "the model\n  said\n\n\nthat a user \n asked\twho\r\nthey are caf\u00e9 \u4e2d\n\n" * 40


def test_groups_of_lines_are_the_whole_text(spaces, make):
    mini, crossing = Tokenizer(MODEL), Tokenizer(make(["<s>", "</s>"]))
    assert (mini._extra, spaces._extra, crossing._extra) == (0, 1, None)
    grouped = spaces.backend.encode(split_lines(TEXT, 100))
    assert len(grouped) > 10
    assert sum(map(len, grouped)) == len(spaces.encode(TEXT)) + len(grouped) - 1  # a space too many in each but one
    for tokenizer in (mini, spaces, crossing):
        for text in (TEXT, TEXT * 4, "\n" + TEXT, "", "\n", "one line"):
            assert tokenizer.encode(text).tolist() == tokenizer.backend.encode([text])[0]
    assert sum(map(len, crossing.backend.encode(split_lines(TEXT, 0)))) != len(
        crossing.encode(TEXT)
    )  # why it is not grouped


@pytest.mark.parametrize("kind", ["mini", "spaces", "crossing"])
def test_phrases_are_built_as_they_are_read(kind, spaces, make):
    """Sentences with a key, put together from pieces, are the ids of the whole text."""
    made = {"mini": lambda: Tokenizer(MODEL), "spaces": lambda: spaces, "crossing": lambda: Tokenizer(make(["<s>"]))}
    tokenizer, text = (
        made[kind](),
        f"{passkey_text.BEFORE}492{passkey_text.BETWEEN}492{passkey_text.AFTER}{passkey_text.QUESTION}492",
    )
    phrases = passkey_text.PasskeyText.from_tokenizer(tokenizer)
    key = [phrases.digits[d] for d in (4, 9, 2)]
    ids = [i for part, _ in [*phrases.needle_spans(key), *phrases.question_spans(key)] for i in part]
    assert tokenizer.decode(ids) == text
    if kind != "crossing":  # which reads the two line ends between AFTER and QUESTION as one token
        assert tokenizer.encode("words" + text)[-len(ids) :].tolist() == ids


def test_keys_need_digits(make):
    class Joined(Tokenizer):
        def encode(self, text):
            return np.append(super().encode(text), super().encode(text[-1:] if text[-1:].isdigit() else ""))

    with pytest.raises(ValueError, match=r"tokenizer\.model has no tokens for single digits"):
        passkey_text.PasskeyText.from_tokenizer(Joined(MODEL))


def test_both_kinds_of_tokenizers(make, tmp_path):
    tokenizer = Tokenizer(make(["<s>", "</s>", "<|eot_id|>"]))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (-1, 1)  # it opens no text, and names no end: the usual one is taken
    assert tokenizer.vocab == len(tokenizer.backend.tokenizer.get_vocab()) > 256
    assert tokenizer.decode(tokenizer.encode("Who are caf\u00e9 \u4e2d?\n\n")) == "Who are caf\u00e9 \u4e2d?\n\n"
    folder = tokenizer.path.parent
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "<|eot_id|>"}, "bos_token": None})
    )
    assert Tokenizer(folder).eos_id == 2
    (folder / "tokenizer_config.json").write_text("{")
    for path, content in (("tokenizer_config.json", None), ("tokenizer.json", "{"), ("x.model", "words")):
        if content:
            (tmp_path / path).write_text(content)
        with pytest.raises(ValueError, match=path):
            Tokenizer(tmp_path / path if content else folder)


def test_truncation_and_padding_of_a_saved_tokenizer_do_not_count(make):
    path = make(["<s>", "</s>"])
    text = "Who are you? " * 20
    whole = Tokenizer(path).encode(text).tolist()
    saved = T.Tokenizer.from_file(str(path))
    saved.enable_truncation(8)
    saved.enable_padding(length=500)
    saved.save(str(path))
    assert Tokenizer(path).encode(text).tolist() == whole
    assert 8 < len(whole) < 500
