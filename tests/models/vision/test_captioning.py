"""Captioners: mixed image sizes, and teacher forcing against generation."""

from __future__ import annotations

import pytest
import torch
from helpers.images import CAPTION_LENGTHS, random_captions

from graphformer import models, patterns

PATTERNS = {
    "grid": patterns.Grid(1),
    "global": patterns.Grid(1) | patterns.GlobalNodes(2),
}
BUILD = {
    "transformer": lambda **own: models.captioner(
        11, channels=3, patch_size=2, dim=12, num_heads=3, **own
    ),
    "recurrent": lambda **own: models.recurrent_captioner(
        11, channels=3, patch_size=2, dim=12, **own
    ),
}


@pytest.mark.parametrize("encoder", ["cnn", "vit"])
@pytest.mark.parametrize("kind", BUILD)
def test_a_batch_gives_what_single_captions_give(kind, encoder):
    torch.manual_seed(0)
    own = {"depth": 1} if kind == "recurrent" else {}
    model = BUILD[kind](encoder=encoder, source_adjacency=patterns.Grid(1), **own).eval()
    batch = random_captions()
    together = model(batch, patterns.Causal()(batch))
    singles = [random_captions((i,)) for i in range(4)]
    alone = [model(one, patterns.Causal()(one)) for one in singles]
    assert together.shape == (17, 11)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_what_is_generated_is_what_teacher_forcing_finds_likeliest(kind, num_beams):
    torch.manual_seed(3)
    model = BUILD[kind]().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # so that images matter
    batch = random_captions()
    written = model.generate(
        batch, max_new_tokens=5, start_id=1, temperature=0.0, num_beams=num_beams
    )
    assert [len(text) for text in written] == [6] * 4
    if num_beams > 1:
        return
    for number, text in enumerate(written):
        one = random_captions((number,))
        one.x = torch.tensor(text[:-1])
        one.pos, one.lengths, one.num_nodes = torch.arange(5), (5,), 5
        assert model(one, patterns.Causal()(one)).argmax(1).tolist() == text[1:]


def test_the_recurrent_decoder_tells_where_it_looks():
    torch.manual_seed(0)
    model = BUILD["recurrent"]().eval()
    batch = random_captions()
    told = model.attend(batch)
    assert [tuple(part.shape) for part in told] == list(
        zip(CAPTION_LENGTHS, batch.source_lengths, strict=True)
    )
    for part in told:
        torch.testing.assert_close(part.sum(1), torch.ones(len(part)))
    torch.testing.assert_close(told[2], model.attend(random_captions((2,)))[0])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", BUILD)
def test_images_of_mixed_sizes_go_through_any_adjacency(kind, pattern):
    torch.manual_seed(0)
    pattern, batch, one = PATTERNS[pattern], random_captions(), random_captions((2,))
    model = BUILD[kind](source_adjacency=pattern, depth=1).eval()
    together, alone = (model(each, patterns.Causal()(each)) for each in (batch, one))
    torch.testing.assert_close(together[7:14], alone, atol=1e-5, rtol=1e-5)


def test_wrong_options_are_refused_by_name():
    with pytest.raises(ValueError, match="encoder: got 'resnet', expected 'cnn' or 'vit'"):
        models.captioner(11, channels=3, patch_size=2, encoder="resnet")
    model = BUILD["recurrent"]().eval()
    with pytest.raises(TypeError, match="'num_beam': did you mean 'num_beams'"):
        model.generate(random_captions(), max_new_tokens=2, start_id=1, num_beam=2)
