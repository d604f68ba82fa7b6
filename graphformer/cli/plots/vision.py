"""Figures of what a trained network does with test images, one for each kind of network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from graphformer.batch_type import Batch
from graphformer.cli.errors import UsageError
from graphformer.cli.plots.answers import CORRECT, WRONG, draw_answers
from graphformer.cli.plots.image_grid import Panel, image_grid
from graphformer.cli.run_data import ImageData, extract_images, image_encoder
from graphformer.data.batch import pack_tokens, slice_batch
from graphformer.models import (
    CLIP,
    EncoderDecoder,
    MaskedAutoencoder,
    RecurrentCaptioner,
    VisionLanguageModel,
    ViT,
    search,
)
from graphformer.models.vision.clip import caption_batch
from graphformer.nn import record_attention, unpatchify
from graphformer.nn.rollout import attention_from, dense_attention, rollout_from
from graphformer.patterns import Pattern
from graphformer.tasks import ImageTextContrast, MaskedImageModeling, Task
from graphformer.tasks.vision.image_text import matching_pairs, sample_hashes
from graphformer.tasks.vision.masked_image import normalize_patches, sample_visible_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN_GREY = 0.55
MAX_CAPTION = 16
"""Tokens of a generated caption."""
NUM_RETRIEVED = 5


@torch.inference_mode()
def draw_attention(task: Task, data: ImageData, count: int) -> Figure:
    """Draw images, the attention of the last block, and that of all blocks (rollout).

    Raises:
        UsageError: when the network has no attention over images.
    """
    encoder, adjacency = image_encoder(task.network, task.adjacency)
    if not len(encoder.transformer.blocks):
        raise UsageError("the network has no attention blocks over images")
    columns = []
    for image in _test_images(data, count):
        pixels = image_pixels(image.x, image.shapes[0], data)
        maps = attention_maps(encoder, adjacency, image)
        columns.append([Panel(pixels), *(Panel(pixels, heat=heat.numpy()) for heat in maps)])
    return image_grid(_transposed(columns), row_titles=["image", "last block", "rollout"])


def attention_maps(encoder: ViT, adjacency: Pattern, image: Batch) -> tuple[Tensor, Tensor]:
    """Return how much the output depends on each patch, by the last block and by all blocks.

    The output is read from the class token if the head pools it, else from the mean of the patches.

    Args:
        encoder: of images.
        adjacency: pattern among the patches.
        image: a batch of one image.

    Returns:
        Two maps [rows, columns].

    Source: rollout: Abnar and Zuidema, 2020, "Quantifying attention flow in transformers".
    """
    with record_attention(encoder.transformer) as records:
        encoder.nodes(image, adjacency(image))
    num_tokens, num_patches = encoder.num_tokens, len(image.x)
    share = torch.zeros(num_tokens + num_patches)
    if encoder.pools_class_token:
        share[0] = 1
    else:
        share[num_tokens:] = 1 / num_patches
    both = attention_from(records[-1], share), rollout_from(records, share)
    last, rollout = (attended[num_tokens:].reshape(image.shapes[0]) for attended in both)
    return last, rollout


@torch.inference_mode()
def draw_reconstructions(task: Task, data: ImageData, count: int) -> Figure:
    """Draw images, their visible patches, and what a masked autoencoder predicts for the others.

    Raises:
        UsageError: when the run is not of a masked autoencoder.
    """
    if not isinstance(task, MaskedImageModeling) or not isinstance(task.network, MaskedAutoencoder):
        raise UsageError("reconstructions are drawn of a masked autoencoder's run")
    columns = []
    for number, image in enumerate(_test_images(data, count)):
        generator = np.random.default_rng((task.seed, number))
        visible = sample_visible_mask(image.lengths, task.mask_ratio, generator)
        predicted = task.network(image, task.adjacency(image), visible)
        if task.normalize:
            _, mean, deviation = normalize_patches(image.x)
            predicted = predicted * deviation + mean
        completed = torch.where(visible[:, None], image.x, predicted)
        shape = image.shapes[0]
        pixels = image_pixels(image.x, shape, data)
        patch = pixels.shape[0] // shape[0], pixels.shape[1] // shape[1]
        is_visible = np.kron(visible.reshape(shape).numpy(), np.ones(patch, bool))[..., None]
        masked = np.where(is_visible, pixels, HIDDEN_GREY)
        completed_pixels = image_pixels(completed, shape, data)
        columns.append([Panel(pixels), Panel(masked), Panel(completed_pixels)])
    titles = ["image", f"{task.mask_ratio:.0%} hidden", "predicted"]
    return image_grid(_transposed(columns), row_titles=titles)


@torch.inference_mode()
def draw_word_attention(task: Task, data: ImageData, count: int) -> Figure:
    """Draw images, and the attention of a captioner to them for each token that it generates.

    Raises:
        UsageError: when the run is not of a captioner.
    """
    network: Any = task.network
    tokenizer = getattr(data, "tokenizer", None)
    if tokenizer is None or not _is_captioner(network):
        raise UsageError("words are drawn of a captioner's run")
    batch = _test_batch(data, count)
    captions = network.generate(
        batch,
        max_new_tokens=MAX_CAPTION,
        start_id=tokenizer.need("bos"),
        eos_token_id=tokenizer.need("eos"),
        temperature=0.0,
    )
    rows = []
    for image, caption in zip(_single(extract_images(batch)), captions, strict=True):
        pixels, shape = image_pixels(image.x, image.shapes[0], data), image.shapes[0]
        maps = word_attention_maps(network, task.adjacency, image, caption)
        words = [tokenizer.decode([token]) for token in caption[1:]]
        rows.append([Panel(pixels, title="")])
        for word, heat in zip(words, maps, strict=True):
            if word.strip():
                rows[-1].append(Panel(pixels, heat=heat.reshape(shape).numpy(), title=word))
    return image_grid(rows)


def word_attention_maps(
    network: nn.Module, adjacency: Pattern, image: Batch, caption: list[int]
) -> Tensor:
    """Return a captioner's attention for each token after the first, [tokens - 1, N].

    Weights are means over the heads, and over the second half of the blocks of a Transformer.

    Args:
        network: an `EncoderDecoder` or a `RecurrentCaptioner`.
        adjacency: pattern among the tokens.
        image: a batch of one image with N patches.
        caption: token ids, the first of them <bos>.
    """
    batch = pack_tokens([caption[:-1]])
    batch.source, batch.source_pos = image.x, image.pos
    batch.source_lengths, batch.source_shapes = image.lengths, image.shapes
    if isinstance(network, RecurrentCaptioner):
        return network.attend(batch)[0]
    assert isinstance(network, EncoderDecoder)
    with record_attention(network.decoder) as records:
        network(batch, adjacency(batch))
    across = [record for record in records if "cross_attention" in record.name]
    later = across[len(across) // 2 :]
    return torch.stack([dense_attention(record) for record in later]).mean(0)


@dataclass(frozen=True)
class _Retrieval:
    """The embeddings of a split with the images that they belong to."""

    images: list[Batch]
    image: Tensor
    text: Tensor
    matches: Tensor
    """Which text (row) belongs to which image (column), bool [n, n]."""
    distinct: list[int]
    """The first index of each image; one with several captions occurs several times."""


@torch.inference_mode()
def draw_retrieval(task: Task, data: ImageData, count: int) -> Figure:
    """Draw the images that are nearest to captions of the test split; correct ones are framed.

    Raises:
        UsageError: when the run is not of a CLIP.
    """
    if not isinstance(task, ImageTextContrast) or not isinstance(task.network, CLIP):
        raise UsageError("retrieval is drawn of a CLIP's run")
    found = _embed(task, data)
    nearest = search(found.text[:count], found.image[found.distinct], NUM_RETRIEVED)[1].tolist()
    rows: list[list[Panel]] = []
    for number, columns in enumerate(nearest):
        rows.append([])
        for i in (found.distinct[column] for column in columns):
            frame = CORRECT if found.matches[number, i] else WRONG
            pixels = image_pixels(found.images[i].x, found.images[i].shapes[0], data)
            rows[-1].append(Panel(pixels, frame=frame))
    captions: Any = getattr(data, "splits")["test"][1]  # noqa: B009 - of captioned images only
    return image_grid(rows, row_titles=list(captions[:count]), wide_titles=True)


def _embed(task: ImageTextContrast, data: ImageData) -> _Retrieval:
    images, embeddings, image_hashes, text_hashes = [], [], [], []
    for batch in data.batches("test"):
        embeddings.append(task.vectors(batch))
        own = extract_images(batch)
        images += _single(own)
        image_hashes += sample_hashes(own)
        text_hashes += sample_hashes(caption_batch(batch))
    image, text = (torch.cat(side) for side in zip(*embeddings, strict=True))
    first: dict[int, int] = {}
    for i, identifier in enumerate(image_hashes):
        first.setdefault(identifier, i)
    matches = matching_pairs(image_hashes, text_hashes)
    return _Retrieval(images, image, text, matches, list(first.values()))


def image_pixels(x: Tensor, shape: tuple[int, ...], data: ImageData) -> np.ndarray:
    """Return an image as pixel values from 0 to 1, [height, width, 1 or 3].

    Args:
        x: its patches, [N, F], scaled as in a batch.
        shape: rows and columns of patches.
        data: that the patches are from.

    Raises:
        UsageError: when it is a video, whose shape has a time.
    """
    if len(shape) != 2:
        raise UsageError("draw: got videos, expected images; choose --what curves")
    pixels = data.pixels(x.cpu()).clamp(0, 1)
    image = unpatchify(pixels.unflatten(0, tuple(shape))[None], data.patch_size)[0]
    return image[:3].permute(1, 2, 0).numpy()


def _test_batch(data: ImageData, count: int) -> Batch:
    """The first samples of the test split."""
    samples = data.batches("test").dataset
    return samples[torch.arange(min(count, len(samples)))]


def _test_images(data: ImageData, count: int) -> list[Batch]:
    return _single(extract_images(_test_batch(data, count)))


def _single(images: Any) -> list[Batch]:
    """Each image of a batch as a batch of its own."""
    return [slice_batch(images, i, i + 1) for i in range(len(images.lengths))]


def _transposed(columns: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
    return [list(row) for row in zip(*columns, strict=True)]


def figure_functions() -> dict[str, Callable[[Task, ImageData, int], Figure]]:
    """Return the functions of a task, its data and a number of images, by what they draw."""
    return {
        "attention": draw_attention,
        "reconstruction": draw_reconstructions,
        "words": draw_word_attention,
        "retrieval": draw_retrieval,
        "answers": draw_answers,
    }


def default_figure(network: nn.Module) -> str | None:
    """Return the key of `figure_functions` for a network, or None if it reads no images."""
    if isinstance(network, MaskedAutoencoder):
        return "reconstruction"
    if isinstance(network, CLIP):
        return "retrieval"
    if isinstance(network, VisionLanguageModel):
        return "answers"
    if _is_captioner(network):
        return "words"
    return "attention" if isinstance(network, ViT) else None


def _is_captioner(network: nn.Module) -> bool:
    is_pair = isinstance(network, EncoderDecoder) and isinstance(network.encoder, ViT)
    return is_pair or isinstance(network, RecurrentCaptioner)
