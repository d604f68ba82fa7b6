"""ViT, DeiT and DINOv2: outputs and gradients equal those of `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import gradients

import graphformer as gf
from graphformer import patterns

SIZES: dict[str, Any] = {
    "hidden_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 31,
    "patch_size": 3,
    "num_channels": 2,
    "image_size": [9, 15],
    "num_labels": 5,
}
CASES = {
    "ViTModel": ("ViTConfig", {}),
    "ViTForImageClassification": ("ViTConfig", {"qkv_bias": False, "image_size": 9}),
    "DeiTModel": ("DeiTConfig", {"image_size": 9}),
    "DeiTForImageClassification": ("DeiTConfig", {"hidden_act": "gelu_new"}),
    "DeiTForImageClassificationWithTeacher": ("DeiTConfig", {}),
    "Dinov2Model": ("Dinov2Config", {"image_size": 9, "use_swiglu_ffn": True}),
    "Dinov2ForImageClassification": ("Dinov2Config", {"image_size": 9, "qkv_bias": False}),
}


def pixels(model: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    size = model.config.image_size
    height, width = size if isinstance(size, list) else (size, size)
    torch.manual_seed(3)
    return torch.randn(3, 2, height, width, dtype=dtype)


def answer(ours: Any, batch: Any) -> torch.Tensor:
    """All nodes where there is no head, tokens first, as `transformers` has them."""
    if ours.head is not None:
        return ours(batch)
    return ours.nodes(batch)[0].unflatten(0, (len(batch.lengths), -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_transformers(make, tmp_path, name: str, dtype: torch.dtype):
    config, sizes = CASES[name]
    theirs = make(name, config, dtype, **(SIZES | sizes))
    theirs.save_pretrained(tmp_path / "there")
    images = pixels(theirs, dtype)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    for source in (theirs, tmp_path / "there"):
        theirs.zero_grad()
        ours = gf.from_pretrained(source)
        assert ours.adjacency == patterns.Complete()
        expected = theirs(pixel_values=images)[0]
        found = answer(ours, gf.data.pack_images(images, 3))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        weight = torch.randn_like(expected)
        (expected * weight).sum().backward()
        (found * weight).sum().backward()
        attention = ours.transformer.blocks[1].attention
        wanted = dict(theirs.named_parameters())
        own = [p for n, p in wanted.items() if n.endswith(".1.attention.v_proj.weight")]
        grad = attention.qkv.weight.grad[-22:]
        torch.testing.assert_close(grad, own[0].grad, rtol=tolerance, atol=tolerance)
        got = gradients(ours)
        for key, parameter in wanted.items():
            if "embeddings.patch" in key or "classifier" in key or key.endswith("cls_token"):
                assert parameter.grad is not None
                torch.testing.assert_close(got[key], parameter.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(make, transformers, tmp_path, name: str):
    config, sizes = CASES[name]
    theirs = make(name, config, **(SIZES | sizes))
    gf.from_pretrained(theirs).save_pretrained(tmp_path / "here")
    again, report = getattr(transformers, name).from_pretrained(
        tmp_path / "here", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    images = pixels(theirs)
    torch.testing.assert_close(again(images)[0], theirs(images)[0], rtol=1e-5, atol=1e-5)


def test_images_of_other_sizes_interpolate_positions(make):
    theirs = make("ViTModel", "ViTConfig", **(SIZES | {"image_size": 12}))
    images = torch.randn(2, 2, 9, 18)
    expected = theirs(images, interpolate_pos_encoding=True)[0]
    ours = gf.from_pretrained(theirs)
    found = answer(ours, gf.data.pack_images(images, 3))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_another_number_of_positions(make, tmp_path):
    theirs = make("ViTModel", "ViTConfig", **SIZES)
    theirs.config.image_size = 12
    with pytest.raises(ValueError, match=r"position_embeddings \(\[1, 16, 22\] stored, \[1, 17"):
        gf.from_pretrained(theirs)


def test_encoder_of_a_masked_autoencoder(make, transformers, tmp_path):
    sizes = SIZES | {"image_size": 9, "mask_ratio": 0.0, "decoder_hidden_size": 16}
    sizes |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    whole = make("ViTMAEForPreTraining", "ViTMAEConfig", **sizes)
    images = pixels(whole)
    noise = torch.arange(9.0).repeat(3, 1)  # the patches stay in their order
    expected = whole.vit(images, noise=noise)[0]
    whole.save_pretrained(tmp_path / "there")
    for source in (whole, whole.vit, tmp_path / "there"):
        ours = gf.from_pretrained(source)
        found = answer(ours, gf.data.pack_images(images, 3))
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
    ours.save_pretrained(tmp_path / "here")
    again = transformers.ViTMAEModel.from_pretrained(tmp_path / "here").eval()
    torch.testing.assert_close(again(images, noise=noise)[0], expected, rtol=1e-5, atol=1e-5)
