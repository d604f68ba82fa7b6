"""GGUF files that the tests write: weights, tokens, chat templates, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.checkpoints import TEXTS, VOCAB
from tokenizers import pre_tokenizers

import graphformer as gf
from graphformer.cli import main
from graphformer.pretrained.gguf.architectures import ARCHITECTURES, GPT2_SIZES, SIZES
from graphformer.pretrained.gguf.settings import WIDE_GEMMA

gguf = pytest.importorskip("gguf", reason="needs the extra `gguf`")
DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 53,
    "rms_norm_eps": 1e-5,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GEMMA3 = DECODER | {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 4,
    "layer_types": ["sliding_attention"] * 2,
}
GPT2 = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 53,
        "n_inner": 96, "eos_token_id": None, "bos_token_id": None}  # fmt: skip
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", DECODER),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", DECODER | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", DECODER | {"head_dim": 24}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", DECODER | {"head_dim": 16}),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        GEMMA3
        | {"attn_logit_softcapping": 0.7, "final_logit_softcapping": 3.0}
        | {"layer_types": ["sliding_attention", "full_attention"]}
        | {"attn_implementation": "eager"},
    ),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GEMMA3),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
}


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a map to queries or keys in the order in which llama.cpp rotates them."""
    halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def stored(model: Any, name: str, key: str) -> np.ndarray:
    """A tensor of `transformers` as llama.cpp stores it."""
    weight = model.state_dict()[key].detach()
    if name == "llama" and ("q_proj" in key or "k_proj" in key):
        weight = permuted(weight, 4 if "q_proj" in key else 2)
    if name.startswith("gemma") and "norm" in key:
        weight = weight + 1
    if name == "gpt2" and weight.ndim == 2 and (".attn." in key or ".mlp." in key):
        weight = weight.T
    return weight.contiguous().numpy()


def write(
    path: Path, name: str, model: Any, kind: Any = None, extra: Any = None, without: str = ""
) -> Path:
    """Write a GGUF file of a model, with matrices quantized if a kind is given."""
    writer = gguf.GGUFWriter(path, name)
    config = model.config.to_dict() | {"rope_theta": 10_000.0}
    sizes = GPT2_SIZES if name == "gpt2" else SIZES
    for field, setting in sizes.items():
        value = config.get(setting)
        if value is not None and field != without:
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{name}.{field}", value)
    count, own = config.get("num_hidden_layers", config.get("n_layer")), model.state_dict()
    tied = config["tie_word_embeddings"]
    for number in range(count):
        for stem, key in ARCHITECTURES[name].keys.items():
            if "#" not in stem and (number or (stem == "output" and tied)):
                continue
            for last in ("weight", "bias"):
                there, here = (f"{text}.{last}".replace("#", str(number)) for text in (key, stem))
                if there not in own:
                    continue
                data = stored(model, name, there)
                if kind is None or data.ndim < 2:
                    writer.add_tensor(here, data)
                else:
                    packed = gguf.quants.quantize(data, kind)
                    writer.add_tensor(here, packed, raw_dtype=kind)
    if extra is not None:
        extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_that_were_written(make, tmp_path, name: str):
    theirs = make(CASES[name][0], CASES[name][1], **CASES[name][2])
    ours = gf.from_pretrained(write(tmp_path / "a.gguf", name, theirs))
    expected = gf.from_pretrained(theirs).state_dict()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-6, atol=1e-6)
    batch = gf.data.pack_tokens(TEXTS)
    torch.testing.assert_close(ours(batch), gf.from_pretrained(theirs)(batch), rtol=1e-4, atol=1e-4)
    ours.save_pretrained(tmp_path / "folder")
    again = gf.from_pretrained(tmp_path / "folder")
    assert torch.equal(again(batch), ours(batch))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16", "BF16"])
def test_quantized_matrices(make, tmp_path, kind: str, monkeypatch):
    monkeypatch.setattr("graphformer.pretrained.gguf.file.CHUNK", 256)  # several parts
    theirs = make(CASES["llama"][0], CASES["llama"][1], **CASES["llama"][2])
    number = gguf.GGMLQuantizationType[kind]
    ours = gf.from_pretrained(write(tmp_path / "a.gguf", "llama", theirs, number))
    for key, parameter in theirs.state_dict().items():
        if "down_proj" in key or "embed" in key:
            data = parameter.numpy()
            data = gguf.quants.dequantize(gguf.quants.quantize(data, number), number)
            parameter.copy_(torch.from_numpy(data))
    names = ("embedding.features.weight", "transformer.blocks.1.mlp.out.weight")
    expected = gf.from_pretrained(theirs).state_dict()
    for name in names:
        assert torch.equal(ours.state_dict()[name], expected[name])


def test_dtype(make, tmp_path):
    theirs = make(CASES["qwen2"][0], CASES["qwen2"][1], **CASES["qwen2"][2])
    path = write(tmp_path / "a.gguf", "qwen2", theirs)
    assert next(gf.from_pretrained(path, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16
    classifier = gf.from_pretrained(path, head="classification", num_classes=3)
    assert classifier(gf.data.pack_tokens(TEXTS)).shape == (3, 3)


BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<s>", "</s>", *BYTES, "ab", "abc", "Ġab"]
TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"


def add_tokenizer(writer: Any) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["a b", "ab c", "Ġ ab"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)


def test_tokens_and_chat_template(make, tmp_path, capsys):
    theirs = make(*CASES["llama"][:2], **CASES["llama"][2] | {"vocab_size": len(TOKENS)})
    path = write(tmp_path / "a.gguf", "llama", theirs, extra=add_tokenizer)
    model = gf.from_pretrained(path)
    tokenizer = model.tokenizer
    pieces = [TOKENS[i] for i in tokenizer.encode("abc ab12</s>").tolist()]
    assert pieces == ["abc", "Ġab", "1", "2", "</s>"]
    assert tokenizer.decode(tokenizer.encode("abc é")) == "abc é"
    assert (tokenizer.bos_id, tokenizer.eos_id) == (0, 1)
    assert model.generation_config["eos_token_id"] == [1]
    messages = [{"role": "user", "content": "ab"}]
    assert tokenizer.apply_chat_template(messages) == "user:ab</s>"
    command = ["generate", "--ckpt", str(path), "--prompt", "abc", "--max-new-tokens", "3"]
    assert main([*command, "--temperature", "0"]) == 0
    new = model.generate(tokenizer.encode("abc").tolist(), max_new_tokens=3, temperature=0)
    assert capsys.readouterr().out == f"abc{tokenizer.decode(new)[3:]}\n"


def test_pieces_with_scores(make, tmp_path):
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "▁a",
              "ab", "▁ab"]  # fmt: skip

    def add(writer: Any) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 259 + [-9.0, -9.0, -9.0, -2.0, -1.0, -3.0])
        writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * 6])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)

    theirs = make(*CASES["llama"][:2], **CASES["llama"][2] | {"vocab_size": len(tokens)})
    tokenizer = gf.from_pretrained(write(tmp_path / "a.gguf", "llama", theirs, extra=add)).tokenizer
    pieces = [tokens[i] for i in tokenizer.encode("ab aé").tolist()]
    assert pieces == ["<s>", "▁ab", "▁a", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("ab aé")) == "ab aé"


def test_what_is_refused_names_the_file(make, tmp_path):
    theirs = make(CASES["llama"][0], CASES["llama"][1], **CASES["llama"][2])
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and more")
    with pytest.raises(ValueError, match=r"broken\.gguf: not a GGUF file that can be read"):
        gf.from_pretrained(tmp_path / "broken.gguf")
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        gf.from_pretrained(tmp_path / "none.gguf")
    for number, (add, message) in enumerate(
        [
            (lambda w: w.add_tensor("rope_freqs.weight", np.full(8, 2, np.float32)), "rope_freqs"),
            (lambda w: w.add_uint32("llama.expert_count", 3), "expert_count"),
            (lambda w: w.add_tokenizer_model("bert"), "'tokenizer.ggml.model': 'bert', expected"),
            (lambda w: w.add_tensor("blk.0.new.weight", np.ones(8, np.float32)), "unexpected keys"),
        ]
    ):
        path = write(tmp_path / f"{number}.gguf", "llama", theirs, extra=add)
        with pytest.raises(ValueError, match=message):
            gf.from_pretrained(path)
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="'general.architecture': 'mamba', expected one of llama"):
        gf.from_pretrained(tmp_path / "other.gguf")


LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


def add_yarn(writer: Any) -> None:
    writer.add_string("llama.rope.scaling.type", "yarn")
    writer.add_float32("llama.rope.scaling.factor", 4.0)
    writer.add_uint32("llama.rope.scaling.original_context_length", 16)


@pytest.mark.parametrize(
    ("without", "add", "own"),
    [
        ("", lambda w: w.add_float32("llama.rope.scale_linear", 4.0), LINEAR),
        ("", add_yarn, {"rope_scaling": YARN, "max_position_embeddings": 64}),
        (
            "attention.head_count_kv",
            lambda w: w.add_array("llama.attention.head_count_kv", [2, 2]),
            {},
        ),
        ("rope.freq_base", None, {}),
        ("", None, {"attention_bias": True}),
        ("", None, {"mlp_bias": True}),
    ],
)
def test_settings_are_those_of_transformers(make, tmp_path, without: str, add: Any, own: Any):
    theirs = make(*CASES["llama"][:2], **CASES["llama"][2] | own)
    ours = gf.from_pretrained(write(tmp_path / "a.GGUF", "llama", theirs, None, add, without))
    tokens = list(range(23))
    expected = theirs(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(ours(gf.data.pack_tokens([tokens])), expected, rtol=1e-4, atol=1e-4)


def test_heads_have_the_width_by_their_number_without_a_setting(make, tmp_path):
    theirs = make(*CASES["qwen3"][:2], **CASES["qwen3"][2] | {"head_dim": 16})
    path = write(tmp_path / "a.gguf", "qwen3", theirs, without="attention.key_length")
    batch = gf.data.pack_tokens(TEXTS)
    expected = gf.from_pretrained(theirs)(batch)
    torch.testing.assert_close(gf.from_pretrained(path)(batch), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("without", "add", "message"),
    [
        ("attention.layer_norm_rms_epsilon", None, "lacks 'llama.attention.layer_norm_rms_eps"),
        ("", lambda w: w.add_uint32("llama.rope.dimension_count", 8), "expected the width of a"),
        ("", lambda w: w.add_bool("llama.attention.causal", False), "causal': False, expected Tr"),
        ("", lambda w: w.add_uint16("split.count", 3), "got part 1 of 3, expected one file"),
        ("", lambda w: w.add_string("general.type", "adapter"), "'adapter', expected 'model'"),
        (
            "feed_forward_length",
            lambda w: w.add_array("llama.feed_forward_length", [96, 95]),
            r"got 'llama.feed_forward_length': \[96, 95\], expected one number",
        ),
    ],
)
def test_settings_that_are_refused(make, tmp_path, without: str, add: Any, message: str):
    theirs = make(*CASES["llama"][:2], **CASES["llama"][2])
    path = write(tmp_path / "a.gguf", "llama", theirs, None, add, without)
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(path)


def test_files_without_tensors_or_in_big_endian_order_are_refused(make, tmp_path, monkeypatch):
    writer = gguf.GGUFWriter(tmp_path / "none.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"none\.gguf: lacks the tensor 'token_embd\.weight'"):
        gf.from_pretrained(tmp_path / "none.gguf")
    kind = partial(gguf.GGUFWriter, endianess=gguf.GGUFEndian.BIG)
    monkeypatch.setattr(gguf, "GGUFWriter", kind)
    theirs = make(*CASES["llama"][:2], **CASES["llama"][2])
    with pytest.raises(ValueError, match="big-endian order, expected little-endian"):
        gf.from_pretrained(write(tmp_path / "a.gguf", "llama", theirs))


def tokenizer_of(make: Any, path: Path, fields: Any, rows: int = len(TOKENS)) -> Any:
    """Write a file with other fields of the tokenizer than `add_tokenizer`, and read it."""

    def add(writer: Any) -> None:
        add_tokenizer(writer)
        for name, value in fields.items():
            writer.kv_data[0].pop(f"tokenizer.ggml.{name}", None)
            if value is not None:
                writer.add_key_value(f"tokenizer.ggml.{name}", value, kind_of(value))

    theirs = make(*CASES["llama"][:2], **CASES["llama"][2] | {"vocab_size": rows})
    return gf.from_pretrained(write(path / "a.gguf", "llama", theirs, extra=add)).tokenizer


def kind_of(value: Any) -> Any:
    kinds = {bool: "BOOL", int: "UINT32", str: "STRING", list: "ARRAY"}
    return gguf.GGUFValueType[kinds[type(value)]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["abc", "Ġ", "z"]),
        ({"add_bos_token": True, "add_eos_token": True}, ["<s>", "abc", "Ġ", "z", "</s>"]),
        ({"pre": "llama-bpe"}, ["<s>", "abc", "Ġ", "z"]),  # llama.cpp's default for Llama 3
        ({"pre": "llama-bpe", "add_bos_token": False}, ["abc", "Ġ", "z"]),
    ],
)
def test_first_and_last_tokens(make, tmp_path, fields: Any, expected: list[str]):
    tokenizer = tokenizer_of(make, tmp_path, fields)
    assert [TOKENS[i] for i in tokenizer.encode("abc z").tolist()] == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bos_token_id": 997}, "'tokenizer.ggml.bos_token_id': 997, expected one of the 261"),
        ({"tokens": None}, "got 0 tokens in 'tokenizer.ggml.tokens', expected 1 to 261"),
        ({"tokens": [*TOKENS, "new"]}, "got 262 tokens in 'tokenizer.ggml.tokens'"),
        ({"merges": ["zz qq"]}, "got 'zz qq' in 'tokenizer.ggml.merges'"),
        ({"merges": ["ab"]}, "got 'ab' in 'tokenizer.ggml.merges'"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(make, tmp_path, fields: Any, message: str):
    with pytest.raises(ValueError, match=message):
        tokenizer_of(make, tmp_path, fields)


def test_truncated_files_are_refused(make, tmp_path):
    theirs = make(CASES["gpt2"][0], CASES["gpt2"][1], **CASES["gpt2"][2])
    content = write(tmp_path / "a.gguf", "gpt2", theirs).read_bytes()
    for size in (0, 7, 43, 401, len(content) // 3, len(content) - 5):
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.gguf: not a GGUF file .* download it again"):
            gf.from_pretrained(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (gguf.GGMLQuantizationType.I32, "got 'blk.0.attn_q.weight' of type I32, expected"),
        (gguf.GGMLQuantizationType.IQ2_XXS, "not a GGUF file that can be read"),  # blocks of 256
        (251, "not a GGUF file that can be read"),
    ],
)
def test_unknown_quantisation_is_refused(make, tmp_path, number: int, message: str):
    theirs = make(CASES["qwen2"][0], CASES["qwen2"][1], **CASES["qwen2"][2])
    content = bytearray(write(tmp_path / "a.gguf", "qwen2", theirs).read_bytes())
    name = b"blk.0.attn_q.weight"
    start = content.index(name) + len(name)
    axes = int.from_bytes(content[start : start + 4], "little")
    place = start + 4 + 8 * axes  # behind the number of axes and their sizes
    content[place : place + 4] = int(number).to_bytes(4, "little")
    (tmp_path / "a.gguf").write_bytes(bytes(content))
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(tmp_path / "a.gguf")


def test_the_largest_gemma_has_a_scale_of_its_own(tmp_path, monkeypatch, make):
    monkeypatch.setitem(WIDE_GEMMA, "gemma3", 2)
    theirs = make(CASES["gemma3"][0], CASES["gemma3"][1], **CASES["gemma3"][2] | {"head_dim": 24})
    ours = gf.from_pretrained(write(tmp_path / "a.gguf", "gemma3", theirs))
    assert ours.transformer.blocks[0].attention.scale == (64 / 4) ** -0.5
