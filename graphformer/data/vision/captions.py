"""Images with captions, for captioning and for the contrast of images and texts."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import Batch
from graphformer.data.checks import check_not_empty
from graphformer.data.io.cache import MissingDataError
from graphformer.data.io.tabular import find_file
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.vision.base import ScaledImages
from graphformer.data.vision.caption_files import read_captions
from graphformer.data.vision.files import ImageFiles, find_folder
from graphformer.data.vision.samples import PatchSamples
from graphformer.deprecated import renamed_keywords

ImagesAndCaptions = tuple[Any, Sequence[str]]
"""Images, [B, C, height, width] or a sequence of [C, height, width], and the caption of each."""


class CaptionSamples:
    """Images and their captions, as sources and targets of an encoder-decoder.

    `samples[index]`, for an index tensor [B], is a batch of the captions: x [M] (<bos>, then the
    caption), y [M] (the caption, then <eos>), pos [M] and lengths; with the images as source
    [N, F], source_pos [N, 2], source_lengths and source_shapes.

    Args:
        images: the labels are not used.
        captions: token ids of each caption.
        start, end: the ids of <bos> and <eos>.
    """

    def __init__(
        self, images: PatchSamples, captions: Sequence[np.ndarray], *, start: int, end: int
    ) -> None:
        inputs = [np.concatenate([[start], caption]) for caption in captions]
        targets = [np.concatenate([caption, [end]]) for caption in captions]
        self.images, self.texts = images, Ragged(inputs, targets)

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the random numbers of the augmentation depend."""
        self.images.set_epoch(epoch)

    def __getitem__(self, index: Tensor) -> Batch:
        batch, images = self.texts[index], self.images[index]
        batch.source, batch.source_pos = images.x, images.pos
        batch.source_lengths, batch.source_shapes = images.lengths, images.shapes
        return batch


class CaptionedImages(TokenizedData, ScaledImages):
    """Images and captions in three splits, with a tokenizer; see `CaptionSamples` for a batch.

    Args:
        patch_size, augment, seed: of `ScaledImages`; not "mixup" or "cutmix", as captions
            cannot be mixed.
        batch_size: pairs per batch.
        vocabulary: as for `TextPairs`.
        max_length: maximum number of tokens of a caption with <bos> or <eos>; longer ones are cut.

    Attributes (after `setup`):
        splits: images and captions of each split.

    Raises:
        ValueError: when max_length is below 2, or augment has "mixup".
    """

    def __init__(
        self,
        *,
        patch_size: int,
        batch_size: int,
        augment: Sequence[str],
        vocabulary: str,
        max_length: int,
        seed: int,
    ) -> None:
        super().__init__(patch_size=patch_size, augment=augment, seed=seed)
        if max_length < 2:
            raise ValueError(f"max_length: got {max_length}, expected 2 or more, a token and <eos>")
        self.batch_size, self.vocabulary, self.max_length = batch_size, vocabulary, max_length
        if self.augmentation is not None and self.augmentation.mixers:
            raise ValueError(
                "augment: got 'mixup' or 'cutmix', expected transforms of single images, as "
                "captions cannot be mixed; leave it out"
            )
        self.splits: dict[str, ImagesAndCaptions] = {}

    @abstractmethod
    def read(self) -> dict[str, ImagesAndCaptions]:
        """Return images and captions of the splits "train", "val" and "test"."""

    def setup(self, stage: str | None = None) -> None:
        """Read images and captions; train the tokenizer unless a checkpoint has one."""
        if not self.splits:
            splits = self.read()
            for split, (images, _) in splits.items():
                check_not_empty(split, images)
            self.measure(splits["train"][0])
            self.splits = splits
        if self.tokenizer is None:
            self.tokenizer = make_tokenizer(self.vocabulary, self.splits["train"][1])

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of "train" (shuffled), "val" or "test"."""
        tokenizer = self.need_tokenizer()
        captions = list(self.splits[split][1])
        ids = [row.numpy()[: self.max_length - 1] for row in tokenizer.encode_batch(captions)]
        samples = CaptionSamples(
            self.images(split), ids, start=tokenizer.need("bos"), end=tokenizer.need("eos")
        )
        sampler = BatchSampler(len(ids), self.batch_size, shuffle=split == "train", seed=self.seed)
        return BatchLoader(samples, sampler)

    def images(self, split: str) -> PatchSamples:
        """Return the images of a split, labelled by their index."""
        images = self.splits[split][0]
        return self.scaled_samples(split, images, torch.arange(len(images)))


class CaptionFile(CaptionedImages):
    """Images in a folder, with a file of their captions.

    An image may have several captions; all of them are in the same split.

    Args:
        path: the captions in one of these layouts: JSON lines (.jsonl) with a caption or a list of
            captions per image; a table (.tsv, .csv); COCO's captions_*.json; Karpathy's
            dataset_*.json, with its splits; Flickr8k's token file, Flickr30k's results.csv and
            Kaggle's captions.txt. Tables and JSON may be gzipped.
        folder: of the images; by default that of `path`.
        val_path, test_path: files of the same layouts; by default the splits of `path`, or random
            fractions of its images.
        image, caption: names of the fields of JSON lines or of a table's columns; two numbers are
            columns, from 0, of a table without a header. By default the layout is recognised.
        patch_size, batch_size, augment, vocabulary, max_length, seed: of `CaptionedImages`.
        size: height and width that images are resized to; with None each keeps its own, cropped
            at the centre to multiples of `patch_size`.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: leave out images that cannot be read or are smaller than a patch, and warn;
            this reads all images at the start.
        val_fraction, test_fraction: shares of the images of `path`, for missing splits.
        root: the data root.

    Raises:
        MissingDataError: when the file or an image does not exist.
        ValueError: when an entry of the file is malformed, or an image cannot be read.
    """

    def __init__(
        self,
        path: str,
        folder: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        image: str | None = None,
        caption: str | None = None,
        patch_size: int = 8,
        batch_size: int = 64,
        augment: Sequence[str] = (),
        vocabulary: str = "wordpiece",
        max_length: int = 64,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        skip_corrupt: bool = False,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            augment=augment,
            vocabulary=vocabulary,
            max_length=max_length,
            seed=seed,
        )
        self.save_hyperparameters(logger=False)
        self.paths = {"train": path, "val": val_path, "test": test_path}
        self.folder, self.fields, self.root = folder, (image, caption), root
        self.size, self.num_channels, self.skip_corrupt = size, channels, skip_corrupt
        self.fractions = (val_fraction, test_fraction)

    def read(self) -> dict[str, ImagesAndCaptions]:
        """Return the pairs of each split; images are read when they are accessed."""
        captions: dict[str, dict[Path, list[str]]] = {}
        for split, path in self.paths.items():
            if path is not None:
                captions |= self._captions(path, split)
        if self.skip_corrupt:
            captions = {split: self._readable(of_split) for split, of_split in captions.items()}
        samples = {split: list(of_split.items()) for split, of_split in captions.items()}
        splits: dict[str, ImagesAndCaptions] = {}
        for split, chosen in split_samples(samples, self.fractions, self.seed).items():
            pairs = [(file, caption) for file, of_image in chosen for caption in of_image]
            splits[split] = (
                self._files([file for file, _ in pairs]),
                [caption for _, caption in pairs],
            )
        return splits

    def _files(self, files: Sequence[Path]) -> ImageFiles:
        return ImageFiles(
            files, size=self.size, channels=self.num_channels, multiple=self.patch_size
        )

    def _readable(self, captions: dict[Path, list[str]]) -> dict[Path, list[str]]:
        files = list(captions)
        return {files[i]: captions[files[i]] for i in self._files(files).readable()}

    def _captions(self, path: str, default: str) -> dict[str, dict[Path, list[str]]]:
        """The captions of each image of a file, by split.

        Splits that the file itself assigns count in the file of "train" only.
        """
        file = find_file(path, self.root)
        folder = file.parent if self.folder is None else find_folder(self.folder, self.root)
        splits: dict[str, dict[Path, list[str]]] = {default: {}}
        listings: dict[Path, dict[str, Path]] = {}
        for caption in read_captions(file, *self.fields):
            if not caption.text.strip():
                raise ValueError(
                    f"{file}, {caption.place}: got an empty caption of {caption.image}, expected a "
                    "text"
                )
            image = _find_image(folder / caption.image, listings)
            if image is None:
                raise MissingDataError(
                    f"{file}, {caption.place}: there is no image {folder / caption.image}; put it "
                    "there, or set folder"
                )
            split = caption.split if default == "train" and caption.split else default
            splits.setdefault(split, {}).setdefault(image, []).append(caption.text)
        if not any(splits.values()):
            raise ValueError(f"{file}: got no captions, expected one or more")
        return splits


def _find_image(path: Path, listings: dict[Path, dict[str, Path]]) -> Path | None:
    """The file of that name, in Unicode's composed (NFC) or decomposed form.

    Args:
        path: of the image.
        listings: the files of the folders that are known so far, by their composed names.
    """
    if path.is_file():
        return path
    folder = path.parent
    if folder not in listings:
        files = folder.iterdir() if folder.is_dir() else ()
        listings[folder] = {unicodedata.normalize("NFC", file.name): file for file in files}
    return listings[folder].get(unicodedata.normalize("NFC", path.name))
