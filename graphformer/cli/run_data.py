"""The data of a run for commands about images, its image encoder, and the encoder's features."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor, nn

from graphformer.batch_type import Batch, BatchLike
from graphformer.cli.checkpoints import restore_text_tokenizer, stored_config
from graphformer.cli.config.files import find_config
from graphformer.cli.config.messages import describe_error
from graphformer.cli.config.parser import Parser
from graphformer.cli.errors import UsageError
from graphformer.data.batch import source_batch
from graphformer.data.vision.base import ScaledImages
from graphformer.models import CLIP, EncoderDecoder, MaskedAutoencoder, RecurrentCaptioner, ViT
from graphformer.nn import pool
from graphformer.patterns import Pattern


class SampleBatches(Protocol):
    """The loader of a split, whose `dataset[index]` is a batch of the samples of an index."""

    dataset: Any

    def __iter__(self) -> Iterator[Batch]: ...


class ImageData(Protocol):
    """Data of images or captions, as `PatchImages` and `CaptionedImages` are."""

    patch_size: int

    def batches(self, split: str) -> SampleBatches:
        """Return the batches of "train", "val" or "test"."""

    def pixels(self, x: Tensor) -> Tensor:
        """Return patches of a batch as pixel values from 0 to 1."""


def restore_data(
    ckpt: Path, config: str | None = None, *, label_fraction: float | None = None
) -> Any:
    """Return the data module of a checkpoint or of a configuration file, after `setup`.

    Args:
        ckpt: the checkpoint.
        config: a configuration file whose data is used instead.
        label_fraction: the data's setting of that name, if it is changed.

    Raises:
        UsageError: when the file has no data, or the data has no `label_fraction`.
    """
    parser, parsed = _parse_data(_data_settings(ckpt, config), ckpt)
    if label_fraction is not None:
        if "label_fraction" not in parsed.data.init_args:
            name = parsed.data.class_path.rpartition(".")[2]
            raise UsageError(f"data: got {name}, which has no label_fraction")
        parsed.data.init_args["label_fraction"] = label_fraction
    module = parser.instantiate_classes(parsed).data
    _restore_state(module, ckpt, statistics_only=config is not None)
    module.prepare_data()
    module.setup("test")
    return module


def restore_unread_data(ckpt: Path) -> Any:
    """Return the data module of a checkpoint with the state it had, before `setup`.

    Raises:
        UsageError: when the settings of the checkpoint have no data.
    """
    settings = _data_settings(ckpt, None)
    if settings is None:
        raise UsageError(f"{ckpt}: got no settings of data; pass data as it was in training")
    parser, parsed = _parse_data(settings, ckpt)
    module = parser.instantiate_classes(parsed).data
    restore_names(module, ckpt)
    return module


def restore_names(module: pl.LightningDataModule, ckpt: Path) -> None:
    """Restore the state of a data module before `setup`, if a checkpoint has that of its class.

    Lightning restores it after `setup`, when new files have been read by other names.
    """
    checkpoint = torch.load(ckpt, map_location="cpu", weights_only=True, mmap=True)
    state = checkpoint.get(type(module).__qualname__)
    if state is not None:
        module.load_state_dict(state)


def _parse_data(settings: Any, ckpt: Path) -> tuple[Parser, Any]:
    """Return a parser of data modules, and what it makes of settings.

    A seed of None is that of the run: data that was split by it in training is split so again.
    """
    parser = Parser()
    parser.add_subclass_arguments(pl.LightningDataModule, "data", fail_untyped=False)
    try:
        parsed = parser.parse_object({"data": settings})
    except argparse.ArgumentError as error:
        raise UsageError(describe_error(str(error), [])) from error
    arguments = parsed.data.get("init_args") or {}
    if "seed" in arguments and arguments["seed"] is None:
        arguments["seed"] = yaml.safe_load(stored_config(ckpt, whole=False))["seed_everything"]
    return parser, parsed


def _restore_state(module: Any, ckpt: Path, *, statistics_only: bool) -> None:
    """Load what a checkpoint has of its data: statistics of images, class names and a tokenizer."""
    checkpoint = torch.load(ckpt, map_location="cpu", weights_only=True)
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    state = next((state for state in states if "mean" in state and "std" in state), {})
    if statistics_only:
        state = {name: state[name] for name in ("mean", "std") if name in state}
    elif hasattr(module, "tokenizer"):
        module.tokenizer = restore_text_tokenizer(ckpt)
    if isinstance(module, ScaledImages):
        module.load_state_dict(state)


def _data_settings(ckpt: Path, config: str | None) -> Any:
    if config is None:
        return yaml.safe_load(stored_config(ckpt, whole=False))["data"]
    try:
        settings = yaml.safe_load(find_config(config).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{config} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict) or settings.get("data") is None:
        raise UsageError(f"{config} has no section data; choose a file of datasets/")
    return settings["data"]


def image_encoder(network: nn.Module, adjacency: Pattern) -> tuple[ViT, Pattern]:
    """Return the part of a network that reads images, and the pattern among their patches.

    Args:
        network: a ViT, or a model that has one.
        adjacency: of the task, for networks without a pattern of their own.

    Raises:
        UsageError: when the network reads no images.
    """
    if isinstance(network, MaskedAutoencoder):
        return network.encoder, adjacency
    if isinstance(network, CLIP):
        return network.image, network.image_adjacency
    encoder: nn.Module = network
    if isinstance(network, EncoderDecoder | RecurrentCaptioner):
        encoder, adjacency = network.encoder, network.source_adjacency
    if not isinstance(encoder, ViT):
        raise UsageError(
            f"{type(encoder).__name__} reads no images; choose a run of a vision model"
        )
    return encoder, adjacency


def extract_images(batch: BatchLike) -> BatchLike:
    """Return the images of a batch of images or of captions, as a batch of patches.

    Raises:
        UsageError: when the batch has no images.
    """
    if getattr(batch, "source_shapes", None) is not None:
        return source_batch(batch)
    if getattr(batch, "shapes", None) is None:
        raise UsageError("the data of this run are no images")
    return batch


@torch.inference_mode()
def features(encoder: ViT, adjacency: Pattern, batch: BatchLike) -> Tensor:
    """Return one vector per image, [B, C]: its class token if the head reads it, else a mean."""
    nodes, sizes = encoder.nodes(batch, adjacency(batch))
    if encoder.pools_class_token:
        return pool(nodes, sizes, "cls")
    num_patches = tuple(size - encoder.num_tokens for size in sizes)
    return pool(nodes[encoder.patch_mask(sizes)], num_patches, "mean")
