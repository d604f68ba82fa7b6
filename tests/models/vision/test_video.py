"""Video transformers over patches of space and time, complete and over the grid."""

from __future__ import annotations

import pytest
import torch

from graphformer import models, patterns
from graphformer.data import pack_tokens, pack_videos

GENERATOR = torch.Generator().manual_seed(0)
VIDEOS = [torch.randn(3, *shape, generator=GENERATOR) for shape in ((4, 4, 6), (6, 2, 4))]
PATCHES = {"channels": 3, "patch_size": 2, "patch_frames": 2}
PATTERNS = [
    patterns.Complete(),
    patterns.Grid(1),
    patterns.Grid((9, 0, 0)) | patterns.Grid((0, 9, 9)),  # time, then space
    patterns.Grid(1, causal=True),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_videos_of_several_sizes_give_what_each_gives_alone(
    pattern: patterns.Pattern, pool: str
) -> None:
    torch.manual_seed(0)
    model = models.video_vit(5, 12, 2, 3, pool=pool, max_length=7, **PATCHES).eval()
    batch = pack_videos(VIDEOS, 2, 2)
    together = model(batch, pattern)
    alone = [model(pack_videos([video], 2, 2), pattern) for video in VIDEOS]
    assert together.shape == (2, 5)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_a_causal_grid_reads_no_later_frames() -> None:
    torch.manual_seed(0)
    model = models.video_vit(None, 12, 3, 3, positions="sincos", **PATCHES).eval()
    later = VIDEOS[0].clone()
    later[:, 2:] += 1.0
    first, second = (
        model(pack_videos([video], 2, 2), patterns.Grid(1, causal=True))
        for video in (VIDEOS[0], later)
    )
    torch.testing.assert_close(first[:6], second[:6])
    assert not torch.allclose(first[6:], second[6:])


def test_the_order_of_frames_matters() -> None:
    torch.manual_seed(0)
    model = models.video_vit(5, 12, 2, 3, max_length=7, **PATCHES).eval()
    for table in model.embedding.positions.tables:
        table.weight.data.mul_(30)
    reverse = VIDEOS[0].reshape(3, 2, 2, 4, 6).flip(1).flatten(1, 2)  # whole patches
    outputs = [model(pack_videos([v], 2, 2), patterns.Complete()) for v in (VIDEOS[0], reverse)]
    assert not torch.allclose(*outputs)


def test_captions_of_videos_and_teacher_forcing() -> None:
    torch.manual_seed(3)
    model = models.video_captioner(
        11, dim=12, num_heads=3, depth=1, source_adjacency=patterns.Grid(1), **PATCHES
    ).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # so that videos matter
    batch = pack_tokens([[1], [1]])
    videos = pack_videos(VIDEOS, 2, 2)
    batch.source, batch.source_pos = videos.x, videos.pos
    batch.source_lengths, batch.source_shapes = videos.lengths, videos.shapes
    first, second = model.generate(batch, max_new_tokens=5, start_id=1, temperature=0.0)
    forced = pack_tokens([first[:-1], second[:-1]])
    batch.x, batch.pos, batch.lengths = forced.x, forced.pos, forced.lengths
    logits = model(batch, patterns.Causal()(batch))
    assert logits.argmax(1).tolist() == first[1:] + second[1:]


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="positions: got 'learned'"):
        models.video_vit(5, 12, positions="learned", **PATCHES)
    with pytest.raises(ValueError, match="registers: got -1"):
        models.video_vit(5, 12, registers=-1, **PATCHES)
    with pytest.raises(ValueError, match="dim: got 16, expected a multiple of 6"):
        models.video_vit(5, 16, positions="sincos", **PATCHES)
