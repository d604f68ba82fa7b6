"""CLIP: vectors and gradients equal those of `transformers`."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from helpers.checkpoints import configured, gradients
from torch.nn import functional as F

import graphformer as gf
from graphformer.pretrained.families.clip import end_nodes

TOWER = {"num_hidden_layers": 2, "num_attention_heads": 2}
SIZES: dict[str, Any] = {
    "text_config": {
        **TOWER, "hidden_size": 22, "intermediate_size": 31, "vocab_size": 97,
        "max_position_embeddings": 13, "bos_token_id": 95, "eos_token_id": 96, "pad_token_id": 1,
    },
    "vision_config": {
        **TOWER, "hidden_size": 26, "intermediate_size": 37, "image_size": 15, "patch_size": 5,
    },
    "projection_dim": 11,
}  # fmt: skip
TEXTS = [[95, 7, 13, 96], [95, 3, 4, 5, 8, 15, 96], [95, 96]]


def vectors(ours: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    texts = gf.data.pack_tokens(TEXTS)
    adjacency = ours.text.adjacency(texts)
    patches = gf.data.pack_images(images, 5)
    return ours.encode_image(patches), ours.encode_text(texts, adjacency)


def expected(theirs: Any, images: torch.Tensor) -> Any:
    longest = max(map(len, TEXTS))
    ids = torch.tensor([text + [96] * (longest - len(text)) for text in TEXTS])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in TEXTS])
    return theirs(input_ids=ids, attention_mask=mask, pixel_values=images)


def test_equal_to_transformers(make, tmp_path):
    theirs = make("CLIPModel", "CLIPConfig", **SIZES)
    theirs.save_pretrained(tmp_path)
    images = torch.randn(3, 3, 15, 15)
    for source in (theirs, tmp_path):
        ours = gf.from_pretrained(source)
        out = expected(theirs, images)
        image, text = vectors(ours, images)
        torch.testing.assert_close(image, out.image_embeds, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(text, out.text_embeds, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            ours.scale * image @ text.T, out.logits_per_image, rtol=1e-4, atol=1e-4
        )
        theirs.zero_grad()
        (out.logits_per_image * torch.arange(9.0).view(3, 3)).sum().backward()
        ((ours.scale * image @ text.T) * torch.arange(9.0).view(3, 3)).sum().backward()
        for grad, other in (
            (ours.text.embedding.features.weight.grad,
             theirs.text_model.embeddings.token_embedding.weight.grad),
            (ours.image.embedding.features.weight.grad,
             theirs.vision_model.embeddings.patch_embedding.weight.grad.flatten(1)),
            (ours.log_scale.grad, theirs.logit_scale.grad),
        ):  # fmt: skip
            torch.testing.assert_close(grad, other, rtol=1e-3, atol=1e-3)


AFTER_THE_END = [
    [95, 7, 13, 96, 4, 5, 96, 8],
    [95, 96, 96, 96, 96],
    [95, 3, 4, 5, 8, 15, 96],
    [2, 96, 2],
    [95, 3, 94, 94],
    [7, 2, 5],
]
"""Texts with tokens after their end token, and two without one."""


@pytest.mark.parametrize("end", [96, 2, 95, 5])
def test_texts_are_read_at_their_first_end_token(make, tmp_path, end: int):
    sizes = {**SIZES, "text_config": {**SIZES["text_config"], "eos_token_id": end}}
    theirs = make("CLIPModel", "CLIPConfig", torch.float64, **sizes)
    theirs.save_pretrained(tmp_path)
    for source in (theirs, tmp_path):
        ours = gf.from_pretrained(source)
        for texts in (AFTER_THE_END, [text + [0] * (13 - len(text)) for text in AFTER_THE_END]):
            batch = gf.data.pack_tokens(texts)
            found = ours.encode_text(batch, ours.text.adjacency(batch))
            single = [theirs.get_text_features(torch.tensor([text])) for text in texts]
            wanted = torch.cat([each.pooler_output for each in single])
            torch.testing.assert_close(found.to(wanted), F.normalize(wanted, dim=-1))


def test_end_tokens_that_are_refused(make, tmp_path):
    make("CLIPModel", "CLIPConfig", **SIZES).save_pretrained(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    configured(tmp_path, text_config={**text, "eos_token_id": [95, 96]})
    with pytest.raises(ValueError, match=r"got 'eos_token_id': \[95, 96\], expected one token id"):
        gf.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lengths: got an empty text"):
        end_nodes(torch.tensor([7, 96]), (2, 0), 96)


def test_there_and_back(make, transformers, tmp_path):
    theirs = make("CLIPModel", "CLIPConfig", torch.float64, **SIZES)
    gf.from_pretrained(theirs).save_pretrained(tmp_path)
    again, report = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    images = torch.randn(3, 3, 15, 15, dtype=torch.float64)
    found, wanted = expected(again, images), expected(theirs, images)
    torch.testing.assert_close(found.logits_per_image, wanted.logits_per_image)


def test_patches_attend_to_their_neighbours_only(make):
    ours = gf.from_pretrained(make("CLIPModel", "CLIPConfig", **SIZES))
    images = torch.randn(3, 3, 15, 15)
    whole, _ = vectors(ours, images)
    ours.image_adjacency = gf.patterns.Grid(radius=1)
    near, _ = vectors(ours, images)
    assert not torch.allclose(near, whole, atol=1e-3)
    assert F.cosine_similarity(near, whole).min() > -1


def test_a_scale_above_the_maximum(make):
    theirs = make("CLIPModel", "CLIPConfig", **SIZES)
    theirs.logit_scale.data.fill_(5.0)
    with pytest.raises(ValueError, match=r"got a scale of 148\.4, expected at most 100"):
        gf.from_pretrained(theirs)


SIGLIP: dict[str, Any] = {
    "text_config": {
        **TOWER, "hidden_size": 26, "intermediate_size": 31, "vocab_size": 97,
        "max_position_embeddings": 7, "projection_size": 26, "pad_token_id": 1,
    },
    "vision_config": {
        **TOWER, "hidden_size": 26, "intermediate_size": 37, "image_size": 15, "patch_size": 5,
    },
}  # fmt: skip
FULL = [[7, 13, 96, 4, 5, 1, 1], [3, 4, 5, 8, 15, 96, 2]]
"""Texts of the full length, padding included, as SigLIP reads them."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_siglip_equals_transformers(make, transformers, tmp_path, dtype: torch.dtype):
    theirs = make("SiglipModel", "SiglipConfig", dtype, **SIGLIP)
    theirs.save_pretrained(tmp_path / "there")
    images = torch.randn(3, 3, 15, 15, dtype=dtype)
    weight = torch.arange(6.0, dtype=dtype).view(3, 2)
    for source in (theirs, tmp_path / "there"):
        theirs.zero_grad()
        ours = gf.from_pretrained(source)
        out = theirs(input_ids=torch.tensor(FULL), pixel_values=images)
        image = ours.encode_image(gf.data.pack_images(images, 5))
        texts = gf.data.pack_tokens(FULL)
        text = ours.encode_text(texts, ours.text.adjacency(texts))
        torch.testing.assert_close(image.to(dtype), out.image_embeds, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(text.to(dtype), out.text_embeds, rtol=1e-5, atol=1e-5)
        logits = ours.logits(image, text)
        torch.testing.assert_close(logits.to(dtype), out.logits_per_image, rtol=1e-4, atol=1e-4)
        (out.logits_per_image * weight).sum().backward()
        (logits * weight).sum().backward()
        found, reference = gradients(ours), dict(theirs.named_parameters())
        assert found.keys() == reference.keys()
        for name, parameter in reference.items():
            size = parameter.grad.abs().max().clamp(min=1)
            torch.testing.assert_close(
                found[name] / size, parameter.grad / size, rtol=1e-4, atol=1e-4
            )
    ours.save_pretrained(tmp_path / "here")
    again, report = transformers.SiglipModel.from_pretrained(
        tmp_path / "here", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
