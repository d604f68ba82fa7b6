"""Checkpoints, and batches for our models and those of `transformers`, for tests."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any, Literal

import torch

import graphformer as gf
from graphformer.pretrained.saving import state_for_transformers

VOCAB = 97
TEXTS = [[7, 13, 96, 11, 5], [3, 4, 8, 15, 16, 23, 42, 61, 2, 9, 12], [89, 31]]
"""Token ids of a ragged batch, without padding tokens."""

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 29,
    "hidden_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 13,
    "max_position_embeddings": 11,
    "type_vocab_size": 2,
}
"""The config.json of a small BERT."""


def bert_tensors() -> dict[str, torch.Tensor]:
    """The tensors of a BertModel of `CONFIG`, without a pooler."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (29, 10),
        "embeddings.position_embeddings.weight": (11, 10),
        "embeddings.token_type_embeddings.weight": (2, 10),
        "embeddings.LayerNorm": (10,),
    }
    for layer in (f"encoder.layer.{i}." for i in range(2)):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}attention.{name}"] = (10, 10)
        shapes[f"{layer}attention.output.LayerNorm"] = (10,)
        shapes[f"{layer}intermediate.dense"] = (13, 10)
        shapes[f"{layer}output.dense"] = (10, 13)
        shapes[f"{layer}output.LayerNorm"] = (10,)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("weight"):
            tensors[name] = torch.randn(shape)
        else:
            tensors[f"{name}.weight"] = torch.randn(shape)
            tensors[f"{name}.bias"] = torch.randn(shape[0])
    return tensors


def configured(folder: Path, **settings: Any) -> Path:
    """Change settings in a folder's config.json; "REMOVE" removes one."""
    config = {**json.loads((folder / "config.json").read_text()), **settings}
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value != "REMOVE"})
    )
    return folder


def padded(texts: list[list[int]], pad: int, *, left: bool = False) -> dict[str, torch.Tensor]:
    """A batch for a model of `transformers`, padded on the right or on the left."""
    longest = max(map(len, texts))
    fills = [[pad] * (longest - len(text)) for text in texts]
    rows = [f + text if left else text + f for text, f in zip(texts, fills, strict=True)]
    mask = [
        [0] * len(f) + [1] * len(text) if left else [1] * len(text) + [0] * len(f)
        for text, f in zip(texts, fills, strict=True)
    ]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def unpadded(output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The nodes of padded texts [B, T, K] end to end [N, K]; vectors of texts are unchanged."""
    return output[mask.bool()] if output.ndim == 3 else output


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradients of one of our models by their keys in `transformers`."""
    with torch.no_grad():
        twin = copy.deepcopy(model)
        grads = dict(model.named_parameters())
        for name, parameter in twin.named_parameters():
            grad = grads[name].grad
            parameter.copy_(torch.zeros_like(parameter) if grad is None else grad)
    return state_for_transformers(twin)


def alone(theirs: Any, texts: list[list[int]]) -> dict[Any, torch.Tensor]:
    """The outputs of theirs for one text at a time, by number: nodes end to end, or vectors."""
    outputs = [theirs(input_ids=torch.tensor([text]))[0] for text in texts]
    return {0: torch.cat([out.flatten(0, -2) for out in outputs])}


def compare(
    theirs: Any,
    ours: Any,
    *,
    pad: int,
    tolerance: float,
    padding: Literal["right", "left", "none"] = "right",
) -> None:
    """Compare outputs and gradients of a padded batch in theirs and a packed one in ours.

    Without padding, theirs are those of one text at a time, for models that read the padding.
    """
    batch, nodes = padded(TEXTS, pad, left=padding == "left"), gf.data.pack_tokens(TEXTS)
    if theirs.config.is_encoder_decoder and type(theirs).__name__[-12:] != "EncoderModel":
        source = TEXTS[1:] + TEXTS[:1]
        targets, batch = batch, padded(source, pad)
        batch |= {f"decoder_{name}": tensor for name, tensor in targets.items()}
        packed = gf.data.pack_tokens(source)
        nodes.source, nodes.source_pos = packed.x, packed.pos
        nodes.source_lengths = packed.lengths
    mask = batch.get("decoder_attention_mask", batch["attention_mask"])
    output = alone(theirs, TEXTS) if padding == "none" else theirs(**batch)
    expected = output[0] if output.get("loss") is None else output[1]
    found = ours(nodes)
    if "end_logits" in output:
        expected = torch.stack([output["start_logits"], output["end_logits"]], dim=-1)
        found = found[:, :2]
    elif expected.shape == batch["input_ids"].shape:  # one number per token
        expected = expected.unsqueeze(-1)
    expected = expected if padding == "none" else unpadded(expected, mask)
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    close(found, expected)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    own, compared = gradients(ours), set()
    for name, parameter in theirs.named_parameters(remove_duplicate=False):
        if name in own and parameter.grad is not None:  # a tied one has several names
            size = parameter.grad.abs().max().clamp(min=1)
            close(
                own[name] / size,
                parameter.grad / size,
                msg=lambda text, name=name: f"{name}: {text}",
            )
            compared.add(parameter)
    left_out = [n for n, p in theirs.named_parameters() if p.grad is not None and p not in compared]
    assert not left_out
