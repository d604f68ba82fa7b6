"""Figures over images: attention, reconstructions, words and where they look, retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.cli.errors import UsageError
from graphformer.cli.run_data import extract_images, image_encoder
from graphformer.data.batch import slice_batch
from graphformer.models import (
    CLIP,
    EncoderDecoder,
    MaskedAutoencoder,
    RecurrentCaptioner,
    ViT,
    search,
)
from graphformer.models.vision.clip import caption_batch
from graphformer.nn import record_attention, unpatchify
from graphformer.nn.record import AttentionRecord
from graphformer.nn.rollout import attention_from, dense_attention, rollout_from
from graphformer.tasks.vision.image_text import matching_pairs, sample_hashes
from graphformer.tasks.vision.masked_image import normalize_patches, sample_visible_mask

GREY = 0.55
RIGHT, WRONG = "#2e8b57", "#c0392b"


@torch.inference_mode()
def draw_attention(task: Any, data: Any, count: int) -> Any:
    """Images, what the last block attends to in them, and what all blocks do (rollout)."""
    encoder, adjacency = image_encoder(task.network, task.adjacency)
    if not len(encoder.transformer.blocks):
        raise UsageError("the network has no attention blocks over images")
    rows: list[list[np.ndarray]] = [[], [], []]
    heats: list[list[np.ndarray | None]] = [[], [], []]
    for one in _images(data, count):
        last, whole = attention_maps(encoder, adjacency, one)
        for row, heat in enumerate((None, last, whole)):
            rows[row].append(image_pixels(one.x, one.shapes[0], data))
            heats[row].append(None if heat is None else heat.numpy())
    labels = ["image", "last block", "rollout"]
    return _table(rows, heats, row_titles=labels)


def attention_maps(encoder: Any, adjacency: Any, one: Any) -> tuple[Tensor, Tensor]:
    """Where the answer of one image comes from, [rows, columns]: by the last block, and by all.

    The answer is the class token's where there is one, else that of all patches together.
    """
    with record_attention(encoder.transformer) as records:
        encoder.nodes(one, adjacency(one))
    tokens = 0 if encoder.tokens is None else len(encoder.tokens)
    share = torch.zeros(tokens + len(one.x))
    share[: 1 if tokens else None] = 1 / (1 if tokens else len(share))
    both = attention_from(records[-1], share), rollout_from(records, share)
    last, whole = (attended[tokens:].reshape(one.shapes[0]) for attended in both)
    return last, whole


@torch.inference_mode()
def draw_reconstructions(task: Any, data: Any, count: int) -> Any:
    """Images, what a masked autoencoder sees of them, and what it makes of that."""
    if not isinstance(task.network, MaskedAutoencoder):
        raise UsageError("reconstructions are drawn of a masked autoencoder's run")
    rows: list[list[np.ndarray]] = [[], [], []]
    for number, one in enumerate(_images(data, count)):
        chance = np.random.default_rng((task.seed, number))
        visible = sample_visible_mask(one.lengths, task.mask_ratio, chance)
        told = task.network(one, task.adjacency(one), visible)
        if task.normalize:
            _, mean, deviation = normalize_patches(one.x)
            told = told * deviation + mean
        pasted = torch.where(visible[:, None], one.x, told)
        whole, shape = image_pixels(one.x, one.shapes[0], data), one.shapes[0]
        side = whole.shape[0] // shape[0], whole.shape[1] // shape[1]
        mask = np.kron(visible.reshape(shape).numpy(), np.ones(side, bool))
        seen = np.where(mask[..., None], whole, GREY)
        for row, image in enumerate((whole, seen, image_pixels(pasted, shape, data))):
            rows[row].append(image)
    hidden = f"{task.mask_ratio:.0%} hidden"
    return _table(rows, row_titles=["image", hidden, "told"])


@torch.inference_mode()
def draw_word_attention(task: Any, data: Any, count: int) -> Any:
    """Images, and where the captioner looks for each word that it writes."""
    network, tokenizer = task.network, getattr(data, "tokenizer", None)
    encoder = getattr(network, "encoder", None)
    if tokenizer is None or not isinstance(encoder, ViT):
        raise UsageError("words are drawn of a captioner's run")
    batch = _first(data, count)
    start, end = tokenizer.need("bos"), tokenizer.need("eos")
    written = network.generate(
        batch, max_new_tokens=16, start_id=start, eos_token_id=end, temperature=0.0
    )
    images = extract_images(batch)
    rows: list[list[np.ndarray]] = []
    heats: list[list[np.ndarray | None]] = []
    titles: list[list[str]] = []
    for number in range(len(images.lengths)):
        one, text = slice_batch(images, number, number + 1), written[number]
        looks = word_attention_maps(network, task.adjacency, one, text)
        words = [tokenizer.decode([token]) for token in text[1:]]
        shown = [i for i, word in enumerate(words) if word.strip()]
        image = image_pixels(one.x, one.shapes[0], data)
        rows.append([image] * (len(shown) + 1))
        heats.append([None, *(looks[i].reshape(one.shapes[0]).numpy() for i in shown)])
        titles.append(["", *(words[i] for i in shown)])
    return _table(rows, heats, titles=titles)


def word_attention_maps(network: Any, adjacency: Any, one: Any, text: list[int]) -> Tensor:
    """What a captioner attends to for each word after the first, [words, n], mean over heads.

    Args:
        network: an `EncoderDecoder` or a `RecurrentCaptioner`.
        adjacency: the pattern of its words.
        one: a batch of one image.
        text: the words' tokens.
    """
    before = text[:-1]
    batch = SimpleNamespace(
        x=torch.tensor(before),
        pos=torch.arange(len(before)),
        lengths=(len(before),),
        num_nodes=len(before),
        source=one.x,
        source_pos=one.pos,
        source_lengths=one.lengths,
        source_shapes=one.shapes,
    )
    if isinstance(network, RecurrentCaptioner):
        return network.attend(batch)[0]
    with record_attention(network.decoder) as records:
        network(batch, adjacency(batch))
    across = [record for record in records if "cross_attention" in record.name]
    return torch.stack([dense_attention(record) for record in _last_half(across)]).mean(0)


def _last_half(records: list[AttentionRecord]) -> list[AttentionRecord]:
    return records[len(records) // 2 :]


@torch.inference_mode()
def draw_retrieval(task: Any, data: Any, count: int) -> Any:
    """Draw sentences of the test split and the images nearest to each, the right one framed."""
    if not isinstance(task.network, CLIP):
        raise UsageError("retrieval is drawn of a CLIP's run")
    images, texts, vectors = [], [], []
    told: tuple[list[int], list[int]] = ([], [])
    for batch in data.batches("test"):
        image, text = task.vectors(batch)
        vectors.append(image)
        texts.append(text)
        own = extract_images(batch)
        images += [slice_batch(own, i, i + 1) for i in range(len(own.lengths))]
        told[0].extend(sample_hashes(own))
        told[1].extend(sample_hashes(caption_batch(batch)))
    best = search(torch.cat(texts)[:count], torch.cat(vectors), 5)[1].tolist()
    said, right = data.splits["test"][1], matching_pairs(*told)
    rows = [[image_pixels(images[i].x, images[i].shapes[0], data) for i in row] for row in best]
    frames = [[RIGHT if right[n, i] else WRONG for i in row] for n, row in enumerate(best)]
    return _table(rows, row_titles=list(said[:count]), frames=frames, wide=True)


def image_pixels(x: Tensor, shape: tuple[int, int], data: Any) -> np.ndarray:
    """An image's patches [n, F] as it was before scaling, [height, width, 1 or 3] from 0 to 1."""
    pixels = data.pixels(x.cpu()).clamp(0, 1)
    image = unpatchify(pixels.unflatten(0, tuple(shape))[None], data.patch_size)[0]
    return image[:3].permute(1, 2, 0).numpy()


def _first(data: Any, count: int) -> Any:
    """The first batch of the test split, no longer than `count`."""
    loader = data.batches("test")
    return loader.dataset[torch.arange(min(count, len(loader.dataset)))]


def _images(data: Any, count: int) -> list[Any]:
    batch = extract_images(_first(data, count))
    return [slice_batch(batch, i, i + 1) for i in range(len(batch.lengths))]


def _table(
    rows: Sequence[Sequence[np.ndarray]],
    heats: Sequence[Sequence[np.ndarray | None]] | None = None,
    *,
    row_titles: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
    frames: Sequence[Sequence[str]] = (),
    wide: bool = False,
) -> Any:
    """A figure of images in rows, with heat laid over them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    most = max(map(len, rows))
    figure = Figure(figsize=(1.35 * most + (2.6 if wide else 0.8), 1.5 * len(rows)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(rows), most, squeeze=False)
    for r, line in enumerate(grid):
        for c, axes in enumerate(line):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if c >= len(rows[r]):
                continue
            image = rows[r][c]
            flat = image.squeeze(-1) if image.shape[-1] == 1 else image
            axes.imshow(flat, "gray", vmin=0, vmax=1)
            heat = None if heats is None else heats[r][c]
            if heat is not None:
                _lay(axes, heat, image.shape)
            if titles:
                axes.set_title(titles[r][c], fontsize=8)
            if frames:
                for spine in axes.spines.values():
                    spine.set(visible=True, color=frames[r][c], linewidth=2.5)
        if row_titles:
            line[0].set_ylabel(
                row_titles[r], fontsize=8, **({"rotation": 0, "ha": "right"} if wide else {})
            )
    return figure


def _lay(axes: Any, heat: np.ndarray, shape: tuple[int, ...]) -> None:
    """Lay attention over an image: the less there is, the darker."""
    axes.imshow(
        heat,
        "inferno",
        alpha=0.6,
        extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5),
        interpolation="bilinear",
    )


def figure_functions() -> dict[str, Callable[[Any, Any, int], Any]]:
    """What there is to draw: functions of a task, its data and a number of images."""
    return {
        "attention": draw_attention,
        "reconstruction": draw_reconstructions,
        "words": draw_word_attention,
        "retrieval": draw_retrieval,
    }


def default_figure(network: Any) -> str | None:
    """What there is to see of a network; None if it looks at no images."""
    kinds = {
        MaskedAutoencoder: "reconstruction",
        CLIP: "retrieval",
        RecurrentCaptioner: "words",
        ViT: "attention",
    }
    for kind, what in kinds.items():
        if isinstance(network, kind):
            return what
    is_captioner = isinstance(network, EncoderDecoder) and isinstance(network.encoder, ViT)
    return "words" if is_captioner else None
