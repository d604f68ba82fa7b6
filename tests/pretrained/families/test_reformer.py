"""Reformer: outputs, gradients and files equal `transformers`; texts of one chunk and of many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import gradients

import graphformer as gf
from graphformer.data.batch import pack_tokens
from graphformer.patterns import LSH, Causal
from graphformer.pretrained.families.reformer.patterns import Chunking, Chunks, HashedChunks

SIZES: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 26,
    "num_attention_heads": 2,
    "attention_head_size": 7,
    "feed_forward_size": 37,
    "attn_layers": ["local", "lsh", "lsh"],
    "axial_pos_shape": [3, 8],
    "axial_pos_embds_dim": [11, 15],
    "max_position_embeddings": 24,
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 4,
    "num_buckets": 6,
    "num_hashes": 1,
    "hash_seed": 5,
    "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
    "num_labels": 5,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {"is_decoder": True},
    "bidirectional": {},
    "longer chunks": {"is_decoder": True, "lsh_attn_chunk_length": 8, "num_buckets": [2, 4]},
    "later chunks": {"local_num_chunks_before": 0, "local_num_chunks_after": 1},
    "one table": {"axial_pos_embds": False, "hidden_act": "gelu", "lsh_num_chunks_before": 0},
    "buckets by size": {"is_decoder": True, "num_buckets": None},
    "two rounds": {"is_decoder": True, "num_hashes": 2},
    "three rounds": {"num_hashes": 3, "lsh_num_chunks_before": 0, "lsh_num_chunks_after": 1},
    "rounds alone": {"num_hashes": 4, "lsh_num_chunks_before": 0, "num_buckets": [2, 4]},
}
LENGTHS = (1, 3, 4, 5, 7, 8, 13, 16, 23)


def text(size: int) -> list[int]:
    return torch.randint(1, 31, (size,), generator=torch.Generator().manual_seed(size)).tolist()


def made(make: Any, name: str, dtype: torch.dtype = torch.float64, **settings: Any) -> Any:
    return make(name, "ReformerConfig", dtype, **(SIZES | settings))


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs(make: Any, variant: str) -> None:
    settings = VARIANTS[variant]
    for size in LENGTHS:
        theirs = made(make, "ReformerModel", **settings)  # anew: it keeps its number of buckets
        expected = theirs(input_ids=torch.tensor([text(size)]))[0][0]
        found = gf.from_pretrained(theirs)(pack_tokens([text(size)]))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=str(size))


def test_samples_of_a_batch_do_not_depend_on_one_another(make: Any) -> None:
    ours = gf.from_pretrained(made(make, "ReformerModel", is_decoder=True))
    texts = [text(size) for size in LENGTHS]
    alone = torch.cat([ours(pack_tokens([each])) for each in texts])
    torch.testing.assert_close(ours(pack_tokens(texts)), alone)


@pytest.mark.parametrize("variant", ["causal", "bidirectional", "two rounds", "three rounds"])
def test_gradients(make: Any, variant: str) -> None:
    theirs = made(make, "ReformerModel", **VARIANTS[variant])
    ours = gf.from_pretrained(theirs)
    ids = text(24)  # transformers trains on texts with all positions only
    expected = theirs.train()(input_ids=torch.tensor([ids]))[0][0]
    found = ours(pack_tokens([ids]))
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    own = gradients(ours)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(own[name], parameter.grad, rtol=1e-7, atol=1e-7, msg=name)


@pytest.mark.parametrize(
    "name",
    ["ReformerModelWithLMHead", "ReformerForMaskedLM", "ReformerForSequenceClassification",
     "ReformerForQuestionAnswering"],
)  # fmt: skip
def test_heads_and_files(make: Any, transformers: Any, tmp_path: Any, name: str) -> None:
    settings = {"is_decoder": name.endswith("LMHead")}
    if name.endswith("Answering"):
        settings["num_labels"] = 2
    theirs = made(make, name, torch.float32, **settings)
    ours = gf.from_pretrained(theirs)
    output = theirs(input_ids=torch.tensor([text(13)]))
    found = ours(pack_tokens([text(13)]))
    if name.endswith("Answering"):
        expected = torch.stack([output["start_logits"], output["end_logits"]], dim=-1)[0]
    else:
        expected = output["logits"]
        expected = expected if expected.ndim == 2 else expected[0]
    if "lm_head.bias" in theirs.state_dict():  # transformers (5.23) loads it, and does not add it
        expected = expected + theirs.lm_head.bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    ours.save_pretrained(tmp_path)
    again, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key]), key
    twice = gf.from_pretrained(tmp_path)
    assert torch.equal(twice(pack_tokens([text(13)])), ours(pack_tokens([text(13)])))


def test_other_adjacencies_take_the_same_weights(make: Any) -> None:
    ours = gf.from_pretrained(made(make, "ReformerModelWithLMHead", is_decoder=True))
    batch = pack_tokens([text(23), text(3)])
    own = ours(batch)
    for pattern in (Causal(), LSH(4, window=5, causal=True)):
        assert not torch.allclose(ours(batch, pattern)[:23], own[:23])
    torch.testing.assert_close(ours(batch, Causal())[23:], own[23:])  # one chunk


def test_greedy_tokens_with_several_rounds(make: Any) -> None:
    settings = {"is_decoder": True, "num_hashes": 3, "attn_layers": ["lsh", "local", "lsh"]}
    theirs = made(make, "ReformerModelWithLMHead", **settings)
    with torch.no_grad():  # so that tokens depend on the text
        for parameter in theirs.parameters():
            parameter.normal_(std=0.5)
        theirs.lm_head.bias.zero_()  # transformers (5.23) does not add it
    ours = gf.from_pretrained(theirs)
    options = {"max_new_tokens": 11, "do_sample": False, "use_cache": False}
    texts = {}
    for size in (3, 5, 13):
        found = ours.generate(text(size), max_new_tokens=11, temperature=0, cache=False)
        texts[size] = found[size:]
        assert found == theirs.generate(torch.tensor([text(size)]), **options)[0].tolist()
    assert len(set(map(tuple, texts.values()))) == 3


def test_generation_computes_the_whole_text(make: Any) -> None:
    ours = gf.from_pretrained(made(make, "ReformerModelWithLMHead", is_decoder=True))
    expected = text(7)
    for _ in range(5):
        expected = [*expected, int(ours(pack_tokens([expected]))[-1].argmax())]
    options = {"max_new_tokens": 5, "temperature": 0}
    assert ours.generate(text(7), cache=False, **options) == expected
    with pytest.raises(ValueError, match="adjacency: got Chunks.* or pass cache=False"):
        ours.generate(text(7), **options)
    hashed = gf.from_pretrained(
        made(make, "ReformerModelWithLMHead", is_decoder=True, attn_layers=["lsh"])
    )
    with pytest.raises(ValueError, match="adjacency: got HashedChunks.* pass cache=False"):
        hashed.generate(text(7), **options)
    complete = ours.with_adjacency(Causal())
    assert complete.generate(text(7), **options) == complete.generate(
        text(7), cache=False, **options
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attn_layers": ["local", "full"]}, "'attn_layers': .* expected a list of 'local' and"),
        ({"lsh_num_chunks_after": 1}, "'lsh_num_chunks_after': 1, expected a sum of 0 or 1"),
        ({"num_buckets": [2, 3]}, r"'num_buckets': \[2, 3\], expected even numbers"),
        ({"axial_pos_embds_dim": [11, 14]}, "widths of the sum 26"),
    ],
)
def test_what_is_not_supported_is_named(settings: dict[str, Any], message: str) -> None:
    from graphformer.pretrained.config import Config
    from graphformer.pretrained.families.reformer.family import build

    with pytest.raises(ValueError, match=message):
        build(Config(SIZES | settings, "config.json"), "none", False)


def test_chunks_of_a_sample() -> None:
    chunking = Chunking(length=2, before=1, after=0, multiple=4, shortest=2)
    assert chunking.filled(2) == 2
    assert chunking.filled(5) == 8
    expected = [[8, 8, 0, 1], [8, 8, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 4, 5]]
    nothing = 5  # for the places 6 and 7 of the filled sample, which precede the first chunk
    expected = [[min(place, nothing) for place in row] for row in expected]
    assert chunking.sources(5, torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_edges_of_a_hash_equal_counts_made_by_hand(causal: bool, rounds: int) -> None:
    chunking = Chunking(length=3, before=1, after=0, multiple=3, shortest=3)
    pattern = HashedChunks(chunking, (4,), 8, causal=causal, seed=7, rounds=rounds)
    q, k, v = torch.randn(3, 11, 2, 5, dtype=torch.float64).requires_grad_()
    counts = torch.stack([counts_by_hand(pattern, q.detach()[:, head], head) for head in (0, 1)])
    edges = pattern.select(q, k, (11,))
    dense = torch.zeros_like(counts)
    listed = edges.to_csr()
    source, target = listed.edge_index
    for head in range(2):
        own = listed.heads[:, head]
        dense[head].index_put_((target[own], source[own]), torch.ones(()).double(), True)
    assert torch.equal(dense, counts)
    assert edges.num_head_edges == int(counts.sum())
    table = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    bias = gf.ops.OffsetBias(table)
    out = gf.attention(q, k, v, edges, bias=bias)
    offset = torch.arange(11) - torch.arange(11).unsqueeze(1)
    logits = torch.einsum("ihd,jhd->hij", q, k) * 5**-0.5 + bias.at(offset).permute(2, 0, 1)
    expected = torch.einsum("hij,jhd->ihd", (logits + counts.log()).softmax(-1), v)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    found, gradient = (
        torch.autograd.grad((x * weight).sum(), (q, k, v, table)) for x in (out, expected)
    )
    torch.testing.assert_close(found, gradient)
    for backend in ("reference", "cpu", "scatter"):
        listed_out = gf.attention(q, k, v, edges, bias=bias, backend=backend)
        torch.testing.assert_close(listed_out, expected)


def counts_by_hand(pattern: HashedChunks, q: torch.Tensor, head: int) -> torch.Tensor:
    """How often a node of one head sees another: chunks of 3 of the rounds in a row."""
    size, rounds = len(q), pattern.rounds
    generator = torch.Generator().manual_seed(pattern.seed)
    rotation = torch.randn(2, 5, rounds, 2, generator=generator, dtype=torch.float64)
    places: list[int | None] = []
    for number in range(rounds):
        rotated = q @ rotation[head, :, number]
        bucket = torch.cat([rotated, -rotated], 1).argmax(1).tolist()
        places += [*sorted(range(size), key=lambda n: (bucket[n], n)), None]
    counts = torch.zeros(size, size, dtype=torch.float64)
    for first, i in enumerate(places):
        for second, j in enumerate(places):
            near = (first // 3 - second // 3) % (len(places) // 3) in (0, 1)
            if i is not None and j is not None and near and (j <= i or not pattern.causal):
                counts[i, j] += 1
    return counts


def test_local_chunks_equal_a_mask_made_by_hand() -> None:
    pattern = Chunks(Chunking(3, 0, 1, 6, 3), causal=False)
    sizes = [2, 7]
    mask = pattern(pack_tokens([text(size) for size in sizes])).to_mask()
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[:2, :2] = True
    for i in range(7):  # four chunks, the last of which is filled
        for j in range(7):
            expected[2 + i, 2 + j] = (j // 3 - i // 3) % 4 in (0, 1)
    assert torch.equal(mask, expected)
