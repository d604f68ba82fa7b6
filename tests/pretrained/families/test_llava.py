"""LLaVA: outputs, gradients and greedy texts with images equal those of `transformers`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.checkpoints import configured, gradients, padded

import graphformer as gf

IMAGE_TOKEN = 96
SIZES: dict[str, Any] = {
    "vision_config": {
        "model_type": "clip_vision_model", "hidden_size": 26, "intermediate_size": 37,
        "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 15, "patch_size": 5,
    },
    "text_config": {
        "model_type": "llama", "vocab_size": 97, "hidden_size": 32, "intermediate_size": 37,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "bos_token_id": None, "eos_token_id": None,
    },
    "image_token_index": IMAGE_TOKEN,
}  # fmt: skip
PATCHES = [IMAGE_TOKEN] * 9
TEXTS = [[7, *PATCHES, 13, 5], [3, 4, *PATCHES, 8, 15, *PATCHES], [89, 31, *PATCHES]]
"""With one, two and one images of three by three patches."""


def with_images(texts: list[list[int]], images: torch.Tensor) -> Any:
    batch, patches = gf.data.pack_tokens(texts), gf.data.pack_images(images, 5)
    batch.source, batch.source_pos = patches.x, patches.pos
    batch.source_lengths, batch.source_shapes = patches.lengths, patches.shapes
    return batch


def made(make: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    name = "LlavaForConditionalGeneration"
    return make(name, "LlavaConfig", dtype, **{**SIZES, **settings})


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 5e-5), pytest.param(torch.float64, 1e-6, marks=pytest.mark.slow)],
    ids=["32", "64"],
)
@pytest.mark.parametrize("layer", [-2, -1, 1])
def test_outputs_and_gradients(make, tmp_path, layer: int, dtype: torch.dtype, tolerance: float):
    theirs = made(make, dtype, vision_feature_layer=layer)
    theirs.save_pretrained(tmp_path)  # under other keys than those in memory
    images = torch.randn(4, 3, 15, 15, dtype=dtype)
    batch = padded(TEXTS, 0)
    expected = theirs(**batch, pixel_values=images).logits[batch["attention_mask"].bool()]
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    for source in (theirs, tmp_path):
        ours = gf.from_pretrained(source)
        found = ours(with_images(TEXTS, images))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        (found * weight).sum().backward()
        own = gradients(ours)
        for name, parameter in theirs.named_parameters():
            if parameter.grad is not None and not name.endswith("position_embedding.weight"):
                size = parameter.grad.abs().max().clamp(min=1)
                torch.testing.assert_close(
                    own[name] / size, parameter.grad / size, rtol=tolerance, atol=tolerance
                )


def test_there_and_back(make, transformers, tmp_path):
    theirs = made(make)
    ours = gf.from_pretrained(theirs)
    ours.save_pretrained(tmp_path)
    kind = transformers.LlavaForConditionalGeneration
    again, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    images, batch = torch.randn(4, 3, 15, 15), padded(TEXTS, 0)
    valid = batch["attention_mask"].bool()
    torch.testing.assert_close(
        again(**batch, pixel_values=images).logits[valid],
        theirs(**batch, pixel_values=images).logits[valid],
    )
    twice = gf.from_pretrained(tmp_path).state_dict()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(twice[key], tensor), key


def test_greedy_texts(make):
    theirs = made(make)
    with torch.no_grad():
        for parameter in theirs.model.language_model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
        theirs.lm_head.weight[IMAGE_TOKEN] = 0  # no image token is generated
        theirs.lm_head.weight[IMAGE_TOKEN, 0] = -99.0
    ours = gf.from_pretrained(theirs)
    images = torch.randn(2, 3, 15, 15)
    texts = [TEXTS[0], [2, 5, *PATCHES, 17], [5, 6, 7]]
    options = {"max_new_tokens": 11, "do_sample": False, "eos_token_id": None}
    expected = []
    for number, text in enumerate(texts):
        ids = torch.tensor([text])
        seen = {"pixel_values": images[number : number + 1]} if number < 2 else {}
        own = theirs.generate(ids, attention_mask=torch.ones_like(ids), **seen, **options)
        expected.append(own[0].tolist())
    packed = [gf.data.pack_images(image.unsqueeze(0), 5) for image in images]
    for cache in (True, False):
        found = ours.generate(
            texts, images=[*packed, None], max_new_tokens=11, temperature=0, cache=cache,
            eos_token_id=None,
        )  # fmt: skip
        assert found == expected
    one = ours.generate(texts[0], images=packed[:1], max_new_tokens=11, temperature=0)
    assert one == expected[0]


def test_images_that_do_not_fit_the_text(make):
    ours = gf.from_pretrained(made(make))
    images = torch.randn(4, 3, 15, 15)
    with pytest.raises(ValueError, match="x: got 36 image tokens, expected 27, one for each patch"):
        ours(with_images(TEXTS, images[:3]))
    with pytest.raises(ValueError, match="source: got no images for 36 image tokens"):
        ours(gf.data.pack_tokens(TEXTS))
    with pytest.raises(ValueError, match="images: got 1, expected 3, one entry for each prompt"):
        ours.generate(TEXTS, images=[None], max_new_tokens=2)
    assert ours(gf.data.pack_tokens([[3, 5]])).shape == (2, 97)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vision_feature_layer": [1, 2]}, "got 'vision_feature_layer': \\[1, 2\\], expected one"),
        ({"vision_feature_select_strategy": "full"}, "'vision_feature_select_strategy': 'full'"),
        (
            {"text_config": {"model_type": "gpt2"}},
            "got 'model_type': 'gpt2', expected one",
        ),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "'siglip_vision_model'"),
    ],
)
def test_unsupported_options_are_named(make, tmp_path, settings: Any, message: str):
    made(make).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        gf.from_pretrained(configured(tmp_path, **settings))
