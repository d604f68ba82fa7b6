"""Images with sentences that describe them, for captioning and for image and text side by side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphformer.data.checks import check_not_empty, check_patch_size
from graphformer.data.io.cache import MissingDataError
from graphformer.data.io.tabular import find_file, get_field, get_text, is_json, read_records
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.ragged import Ragged
from graphformer.data.splits import split_samples
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.vision.augment import Augmentation
from graphformer.data.vision.base import ImageSamples, common_size, denormalize, pixel_statistics
from graphformer.data.vision.folder import ImageFiles, find_folder, readable_files

ImagesAndCaptions = tuple[Any, Sequence[str]]
"""Images, [B, C, height, width] or a sequence of [C, height, width], and a sentence each."""


class CaptionSamples:
    """Images and their sentences, as sources and targets of an encoder-decoder.

    A batch is one of the sentences, with x [M] (what a decoder reads: <bos>, then the sentence) and
    y [M] (what it shall answer: the sentence, then <eos>), pos [M] and `lengths`, and has the
    images' `source` [N, F], `source_pos` [N, 2], `source_lengths` and `source_shapes`.

    Args:
        images: without labels that matter.
        captions: token ids of each sentence.
        start, end: the ids of <bos> and <eos>.
    """

    def __init__(
        self, images: ImageSamples, captions: Sequence[np.ndarray], *, start: int, end: int
    ) -> None:
        read = [np.concatenate([[start], caption]) for caption in captions]
        answer = [np.concatenate([caption, [end]]) for caption in captions]
        self.images, self.texts = images, Ragged(read, answer)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Data:
        batch, image = self.texts[index], self.images[index]
        batch.source, batch.source_pos = image.x, image.pos
        batch.source_lengths, batch.source_shapes = image.lengths, image.shapes
        return batch


class CaptionedImages(TokenizedData):
    """Images and sentences in three splits, with a vocabulary of words; see `CaptionSamples`.

    `num_features`, `vocab_size` and, where all images have one size, `shape` are there after
    `setup`.

    Args:
        patch_size: side of a patch.
        batch_size: pairs a batch.
        augment: changes of training images, see `graphformer.data.vision.augment.Augmentation`;
            but no "mixup", as sentences cannot be mixed.
        vocabulary: as for `TextPairs`.
        max_length: the most tokens that are read or answered, <bos> or <eos> among them; longer
            sentences are cut.
        seed: of the order and the changes.
    """

    largest = 255.0

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
        super().__init__()
        check_patch_size(patch_size)
        if max_length < 2:
            raise ValueError(
                f"max_length is {max_length}: expected 2 or more, a word and where it ends."
            )
        self.patch_size, self.batch_size, self.seed = patch_size, batch_size, seed
        self.vocabulary, self.max_length = vocabulary, max_length
        self.augmentation = Augmentation(augment, seed) if augment else None
        if self.augmentation is not None and self.augmentation.alpha is not None:
            raise ValueError(
                "augment 'mixup' adds images up, but their sentences cannot be: leave it out."
            )
        self.splits: dict[str, ImagesAndCaptions] = {}
        self.mean = self.std = np.zeros(0)
        self.channels = self.num_features = 0
        self.shape: tuple[int, int] | None = None

    @abstractmethod
    def read(self) -> dict[str, ImagesAndCaptions]:
        """Return the splits 'train', 'val' and 'test'."""

    def setup(self, stage: str | None = None) -> None:
        """Read images and sentences; learn the vocabulary unless a checkpoint gave one."""
        if not self.splits:
            splits = self.read()
            for split, (images, _) in splits.items():
                check_not_empty(split, images)
            self.splits, images = splits, splits["train"][0]
            self.mean, self.std = pixel_statistics(images)
            self.channels = len(self.mean)
            self.num_features = self.channels * self.patch_size**2
            sides = common_size(images)
            if sides is not None:
                self.shape = (sides[0] // self.patch_size, sides[1] // self.patch_size)
        if self.tokenizer is None:
            self.tokenizer = make_tokenizer(self.vocabulary, self.splits["train"][1])

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, shuffled where it is the training split."""
        tokenizer = self.need_tokenizer()
        captions = list(self.splits[split][1])
        ids = [row.numpy()[: self.max_length - 1] for row in tokenizer.encode_batch(captions)]
        samples = CaptionSamples(
            self.images(split), ids, start=tokenizer.need("bos"), end=tokenizer.need("eos")
        )
        order = BatchSampler(len(ids), self.batch_size, shuffle=split == "train", seed=self.seed)
        return BatchLoader(samples, order)

    def images(self, split: str) -> ImageSamples:
        """The images of a split, whose labels are their numbers."""
        images = self.splits[split][0]
        changes = self.augmentation if split == "train" else None
        numbers = torch.arange(len(images))
        return ImageSamples(images, numbers, self.patch_size, self.mean, self.std, changes)

    def pixels(self, x: Tensor) -> Tensor:
        """Patches [..., C * patch_size**2] of a batch as they were before scaling, from 0 to 1."""
        return denormalize(x, self.mean, self.std, self.patch_size) / self.largest


class CaptionFile(CaptionedImages):
    """Images in a folder, and beside them a file that has a sentence for each.

    An image may come several times, with other sentences: all of these are in the same split.

    Args:
        path: .jsonl with fields, or .tsv or .csv with columns, perhaps .gz: a file name and a
            sentence, or, in JSON, a list of sentences.
        folder: of the images; that of `path` by default.
        val_path, test_path: files of the same form; else fractions of `path`, by chance.
        image, caption: names of fields in JSON lines ("image" and "caption" by default) or of a
            table's columns; two numbers are columns, from 0, of a table without a header (0 and 1
            by default).
        patch_size, batch_size, augment, vocabulary, max_length, seed: of `CaptionedImages`.
        size: height and width that images are scaled to; None keeps each as it is, but for what
            its sides have beyond a multiple of `patch_size`.
        channels: 3 for colour, 1 for grey.
        skip_corrupt: leave images out that cannot be read, and warn of how many; this reads all of
            them at the start.
        val_fraction, test_fraction: of the division, where there is but one file.
        root: the data root.

    Raises:
        MissingDataError: the file or an image is not there.
        ValueError: naming the file, and the line, that is not as it should be, or an image that
            cannot be read.
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
        self.size, self.channels, self.skip_corrupt = size, channels, skip_corrupt
        self.fractions = (val_fraction, test_fraction)

    def read(self) -> dict[str, ImagesAndCaptions]:
        """Return the pairs of each file; images are read when they are asked for."""
        said = {p: self._sentences(path) for p, path in self.paths.items() if path is not None}
        if self.skip_corrupt:
            said = {split: self._readable(own) for split, own in said.items()}
        images = {split: list(own.items()) for split, own in said.items()}
        splits: dict[str, ImagesAndCaptions] = {}
        for split, chosen in split_samples(images, self.fractions, self.seed).items():
            pairs = [(file, sentence) for file, own in chosen for sentence in own]
            files = ImageFiles(
                [file for file, _ in pairs],
                size=self.size,
                channels=self.channels,
                multiple=self.patch_size,
            )
            splits[split] = (files, [sentence for _, sentence in pairs])
        return splits

    def _readable(self, said: dict[Path, list[str]]) -> dict[Path, list[str]]:
        files = list(said)
        return {files[i]: said[files[i]] for i in readable_files(files, self.channels)}

    def _sentences(self, path: str) -> dict[Path, list[str]]:
        """The images of a file, and what is said of each."""
        file = find_file(path, self.root)
        folder = file.parent if self.folder is None else find_folder(self.folder, self.root)
        said: dict[Path, list[str]] = {}
        for number, name, sentence in self._rows(file):
            if not sentence.strip():
                raise ValueError(f"{file}, line {number}: there is no sentence about {name}.")
            if not (folder / name).is_file():
                raise MissingDataError(f"{file}, line {number}: there is no image {folder / name}.")
            said.setdefault(folder / name, []).append(sentence)
        if not said:
            raise ValueError(f"{file} holds no images and sentences.")
        return said

    def _rows(self, file: Path) -> Iterator[tuple[int, str, str]]:
        """The number of each line, and its image and sentence, or each of its sentences."""
        usual = ("image", "caption") if is_json(file) else ("0", "1")
        image, caption = (own or other for own, other in zip(self.fields, usual, strict=True))
        header = not (image.isdigit() and caption.isdigit())
        for number, record in read_records(file, header=header):
            name = get_text(record, image, file, number)
            said = get_field(record, caption, file, number)
            for sentence in said if isinstance(said, list) else [said]:
                yield number, name, get_text({caption: sentence}, caption, file, number)
