"""What the commands about images share: data of a checkpoint, the part that looks, its features."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor

from graphformer.cli.checkpoints import restore_text_tokenizer, stored_config
from graphformer.cli.config.files import find_config
from graphformer.cli.config.messages import describe_error
from graphformer.cli.config.parser import Parser, import_object
from graphformer.cli.errors import UsageError
from graphformer.data.batch import source_batch
from graphformer.models import CLIP, EncoderDecoder, MaskedAutoencoder, RecurrentCaptioner, ViT
from graphformer.nn import pool
from graphformer.patterns import Pattern


def restore_data(ckpt: Path, config: str | None = None, **settings: Any) -> Any:
    """The data of a checkpoint, or of a configuration file, set up, with some settings changed.

    Raises:
        UsageError: the file names no data, or the data does not take a setting.
    """
    parser = Parser()
    parser.add_subclass_arguments(pl.LightningDataModule, "data", fail_untyped=False)
    try:
        parsed = parser.parse_object({"data": _data_settings(ckpt, config)})
    except argparse.ArgumentError as error:
        raise UsageError(describe_error(str(error), [])) from error
    known = inspect.signature(import_object(parsed.data.class_path)).parameters
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"{parsed.data.class_path.rpartition('.')[2]} takes no {name}")
        parsed.data.init_args[name] = value
    module = parser.instantiate_classes(parsed).data
    if hasattr(module, "tokenizer") and config is None:
        module.tokenizer = restore_text_tokenizer(ckpt)
    module.prepare_data()
    module.setup("test")
    return module


def _data_settings(ckpt: Path, config: str | None) -> Any:
    if config is None:
        return yaml.safe_load(stored_config(ckpt, whole=False))["data"]
    try:
        settings = yaml.safe_load(find_config(config).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{config} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict) or settings.get("data") is None:
        raise UsageError(f"{config} names no data: choose a file of datasets/")
    return settings["data"]


def image_encoder(network: Any, adjacency: Pattern) -> tuple[ViT, Pattern]:
    """The part of a network that looks at images, and who attends to whom in them.

    Raises:
        UsageError: no part of it does.
    """
    if isinstance(network, MaskedAutoencoder):
        return network.encoder, adjacency
    if isinstance(network, CLIP):
        return network.image, network.image_adjacency
    if isinstance(network, EncoderDecoder | RecurrentCaptioner):
        network, adjacency = network.encoder, network.source_adjacency
    if not isinstance(network, ViT):
        raise UsageError(f"{type(network).__name__} looks at no images: choose a run of vision")
    return network, adjacency


def extract_images(batch: Any) -> Any:
    """The images of a batch, whether it is one of images or of captions."""
    if getattr(batch, "source_shapes", None) is None:
        if getattr(batch, "shapes", None) is None:
            raise UsageError("the data of this run are no images")
        return batch
    return source_batch(batch)


@torch.inference_mode()
def features(encoder: ViT, adjacency: Pattern, batch: Any) -> Tensor:
    """A vector an image, [B, C]: the class token's, or else the mean of its patches."""
    nodes, sizes = encoder.nodes(batch, adjacency(batch))
    if getattr(encoder.head, "pool", None) == "cls":
        return pool(nodes, sizes, "cls")
    counts = tuple(map(int, batch.lengths))
    return pool(nodes[encoder.patch_mask(sizes)], counts, "mean")
