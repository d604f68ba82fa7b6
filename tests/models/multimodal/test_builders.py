"""LLaVA- and Flamingo-like models: packing, masks by hand, gradients, gates, missing images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import graphformer as gf
from graphformer.batch_type import Batch
from graphformer.data import attach_images, pack_images, pack_tokens, prepend_images
from graphformer.models import EncoderDecoder, VisionLanguageModel, flamingo, language_model, llava
from graphformer.patterns import Between, Causal, Complete, Grid, Prefix, Within

IMAGE, VOCABULARY = 10, 11
TEXTS = [[5, 6, 7], [8], [3, 4, 2, 1]]
PIXELS = [torch.randn(3, 4, 6), None, torch.randn(3, 2, 4)]
SIZES = {"channels": 3, "patch_size": 2, "dim": 12, "num_heads": 3, "stem_channels": [5]}
SPARSE = Within(0, Grid(1)) | Within(1, Causal()) | Between(target=1, source=0)


def joint(texts: list[list[int]] = TEXTS, images: list[Tensor | None] = PIXELS) -> Batch:
    return prepend_images(pack_tokens(texts), pack_images(images, 2), IMAGE)


def apart(texts: list[list[int]] = TEXTS, images: list[Tensor | None] = PIXELS) -> Batch:
    return attach_images(pack_tokens(texts), pack_images(images, 2))


def small_llava(**settings: int) -> VisionLanguageModel:
    torch.manual_seed(0)
    return llava(VOCABULARY, image_token_id=IMAGE, depth=2, **{**SIZES, **settings}).eval()


def small_flamingo(gate: float) -> EncoderDecoder:
    torch.manual_seed(0)
    model = flamingo(VOCABULARY, depth=2, image_depth=1, **SIZES).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(gate)
    return model


@pytest.mark.parametrize("pattern", [Prefix(), SPARSE])
@pytest.mark.parametrize("image_depth", [0, 1])
def test_packed_texts_with_images_equal_single_ones(pattern: gf.Pattern, image_depth: int) -> None:
    model = small_llava(image_depth=image_depth)
    alone = [
        model(joint([text], [image]), pattern)
        for text, image in zip(TEXTS, PIXELS, strict=True)
        if image is not None
    ]
    together = model(joint(), pattern).split(joint().lengths)
    for one, other in zip(alone, (together[0], together[2]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_text_without_an_image_is_a_text() -> None:
    model = small_llava()
    packed = pack_tokens(TEXTS[1:2])
    middle = model(joint(), Prefix()).split(joint().lengths)[1]
    torch.testing.assert_close(model(packed, Causal()), middle)


def test_the_pattern_is_the_mask_made_by_hand() -> None:
    model, batch = small_llava(), joint(TEXTS[:1], PIXELS[:1])
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[:6, :6] = True
    for token in range(6, 9):
        mask[token, : token + 1] = True
    torch.testing.assert_close(model(batch, Prefix()), model(batch, gf.from_mask(mask)))
    for i in range(6):
        for j in range(6):
            mask[i, j] = abs(i // 3 - j // 3) <= 1 and abs(i % 3 - j % 3) <= 1
    sparse = model(batch, gf.from_mask(mask))
    torch.testing.assert_close(model(batch, SPARSE), sparse)
    assert not torch.allclose(model(batch, Prefix()), sparse)


def test_without_edges_from_patches_the_image_has_no_effect() -> None:
    model = small_llava()
    blind = Within(0, Complete()) | Within(1, Causal())
    others = [None if image is None else torch.randn_like(image) for image in PIXELS]
    tokens = joint().node_type == 1
    one, other = (model(joint(images=images), blind)[tokens] for images in (PIXELS, others))
    assert torch.equal(one, other)
    one, other = (model(joint(images=images), Prefix())[tokens] for images in (PIXELS, others))
    assert not torch.allclose(one, other)


def gradient(model: Callable[..., Tensor], batch: Batch, pattern: gf.Pattern, row: int) -> Tensor:
    batch.source = batch.source.clone().requires_grad_()
    model(batch, pattern)[row].square().sum().backward()
    assert batch.source.grad is not None
    return batch.source.grad.abs().sum(1)


def test_the_gradient_of_a_token_reaches_its_own_image() -> None:
    reached = gradient(small_llava(), joint(), Prefix(), row=8) > 0  # last token of sample 0
    assert reached.tolist() == [True] * 6 + [False] * 2
    reached = gradient(small_flamingo(gate=0.5), apart(), Causal(), row=7) > 0  # of sample 2
    assert reached.tolist() == [False] * 6 + [True] * 2


def test_an_untrained_flamingo_is_its_text_model_to_the_bit() -> None:
    model = small_flamingo(gate=0.0)
    text = language_model(
        VOCABULARY, dim=12, depth=2, num_heads=3, positions="rotary", tied=True
    ).eval()
    stored = {
        name.replace("norm3", "norm2"): tensor
        for name, tensor in model.decoder.state_dict().items()
        if not any(part in name for part in ("cross_attention", "norm2", "gate"))
    }
    text.load_state_dict(stored)
    expected = text(pack_tokens(TEXTS), Causal())
    assert torch.equal(model(apart(), Causal()), expected)
    assert not torch.allclose(small_flamingo(gate=0.5)(apart(), Causal()), expected)


def test_a_closed_gate_opens_by_its_gradient() -> None:
    model = small_flamingo(gate=0.0)
    model(apart(), Causal()).square().sum().backward()
    for block in model.decoder.transformer.blocks:
        assert block.gate.shape == (1,)
        assert block.gate.grad.abs() > 0
        assert not block.cross_attention.qkv.weight.grad.any()


def test_packed_texts_with_cross_attention_equal_single_ones() -> None:
    model = small_flamingo(gate=0.5)
    together = model(apart(), Causal()).split(apart().lengths)
    for number in (0, 2):
        alone = model(apart(TEXTS[number : number + 1], PIXELS[number : number + 1]), Causal())
        torch.testing.assert_close(alone, together[number])


def test_greedy_answers_read_the_image() -> None:
    model = small_llava()
    texts = [[IMAGE] * 6 + TEXTS[0], TEXTS[1]]
    images = [pack_images(PIXELS[:1], 2), None]
    answers = model.generate(
        texts, max_new_tokens=1, images=images, temperature=0.0, adjacency=Causal()
    )
    batch = joint(TEXTS[:2], PIXELS[:2])
    best = model(batch, Causal()).argmax(1)
    for prompt, found in ((TEXTS[0], 0), (texts[0][1:], 5)):
        with pytest.raises(ValueError, match=f"prompts: got {found} image tokens, expected 6"):
            model.generate([prompt], max_new_tokens=1, images=images[:1], adjacency=Causal())
    assert answers == [texts[0] + [int(best[8])], texts[1] + [int(best[9])]]
