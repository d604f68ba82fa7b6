"""`SceneQuestions`: questions about composed scenes, with answers of one word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphformer.batch_type import IGNORE_INDEX, Batch
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.multimodal.image_text import attach_images, prepend_images
from graphformer.data.multimodal.questions import (
    LINES,
    QUESTION_TYPES,
    Combinations,
    SceneQuestion,
    balanced_size,
)
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from graphformer.data.text.tokenizer_training import train_tokenizer
from graphformer.data.vision.base import ScaledImages
from graphformer.data.vision.samples import PatchSamples
from graphformer.data.vision.scene_objects import (
    Source,
    download_objects,
    object_names,
    paint,
    read_objects,
)

ImagesAndQuestions = tuple[Tensor, list[SceneQuestion]]
"""Images [B, 3, height, width], and a question about each."""


class QuestionSamples:
    """Images and questions; the label of a question's last token is the answer.

    Args:
        images: the labels are not used.
        texts: token ids of each question, and their labels.
        types: number of each question's type, int64 [B].
        image_token_id: of the tokens before a question, one for each patch; None for images that
            are only sources of cross-attention.
    """

    def __init__(
        self, images: PatchSamples, texts: Ragged, types: Tensor, image_token_id: int | None
    ) -> None:
        self.images, self.texts, self.types = images, texts, types
        self.image_token_id = image_token_id

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the random numbers of the augmentation depend."""
        self.images.set_epoch(epoch)

    def __getitem__(self, index: Tensor) -> Batch:
        texts, images = self.texts[index], self.images[index]
        if self.image_token_id is None:
            batch = attach_images(texts, images)
        else:
            batch = prepend_images(texts, images, self.image_token_id)
        batch.question_type = self.types[index]
        return batch


class SceneQuestions(TokenizedData, ScaledImages):
    """Questions about scenes of clothes or digits: how many, which colour, what is next to.

    A scene has three groups of one to three objects of one kind and colour, in three columns or
    rows; the kinds of the groups differ. In each split, each question occurs with each of its
    answers equally often, so that the question alone says nothing about the answer.
    Neighbouring kinds of the test split are never neighbours in training, and its objects are
    images that do not occur in training; a model that memorises neighbours is thus wrong in the
    test. A scene depends on the seed, its split and its index only.

    A batch is that of `prepend_images` or `attach_images`: the labels y [N] are -100 but for the
    answer, at the question's last token. question_type [B] is the number of the type.

    Args:
        source: "digits" (scikit-learn's) or "clothes" (Fashion-MNIST, as `IdxImages` finds it).
        num_samples, val_size, test_size: questions of each split, each with an image of its own; a
            multiple of the number in which all answers are equally frequent.
        held_out_neighbors: number of neighbours of each kind on each side that only the test split
            has.
        image_tokens: whether the patches are nodes of the sequence, before the question; else they
            are only sources of cross-attention.
        patch_size, augment, seed: of `ScaledImages`; not "flip", which would exchange left and
            right.
        batch_size: questions per batch.
        root: the data root.

    Attributes:
        splits: images and questions of each split, after `setup`.
        question_types: names of the types.

    Raises:
        MissingDataError: when the clothes are missing and cannot be downloaded.
        ValueError: when a size is no such multiple, held_out_neighbors is out of range, or augment
            has "flip", "mixup" or "cutmix".
    """

    question_types = QUESTION_TYPES

    def __init__(
        self,
        source: Source = "digits",
        num_samples: int = 20_160,
        *,
        val_size: int = 3360,
        test_size: int = 2880,
        held_out_neighbors: int = 2,
        image_tokens: bool = True,
        patch_size: int = 8,
        batch_size: int = 128,
        augment: Sequence[str] = (),
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(patch_size=patch_size, augment=augment, seed=seed)
        self.save_hyperparameters(logger=False)
        mixers = self.augmentation is not None and self.augmentation.mixers
        if "flip" in augment or mixers:
            raise ValueError(
                f"augment: got {list(augment)}, expected transforms of single images that keep "
                "left and right; leave out flip, mixup and cutmix"
            )
        self.source, self.root, self.batch_size = source, root, batch_size
        self.image_tokens = image_tokens
        self.names = object_names(source)
        self.combinations = Combinations(self.names, held_out_neighbors, seed)
        self.sizes = {"num_samples": num_samples, "val_size": val_size, "test_size": test_size}
        for name, split in zip(self.sizes, ("train", "val", "test"), strict=True):
            unit, size = balanced_size(self.combinations.items(split)), self.sizes[name]
            if size < 1 or size % unit:
                raise ValueError(
                    f"{name}: got {size}, expected a multiple of {unit}, in which all answers are "
                    f"equally frequent; use {max(round(size / unit), 1) * unit}"
                )
        self.splits: dict[str, ImagesAndQuestions] = {}

    def prepare_data(self) -> None:
        """Download the files of the clothes that are missing."""
        download_objects(self.source, self.root)

    def setup(self, stage: str | None = None) -> None:
        """Compose the scenes; train the tokenizer unless a checkpoint has one."""
        if not self.splits:
            objects = read_objects(self.source, self.root, seed=self.seed)
            sizes = zip(("train", "val", "test"), self.sizes.values(), strict=True)
            for number, (split, size) in enumerate(sizes):
                of_split = objects["test" if split == "test" else "train"]
                self.splits[split] = self._compose(split, number, size, of_split)
            self.measure(self.splits["train"][0])
        if self.tokenizer is None:
            self.tokenizer = self._train_tokenizer()

    def _compose(
        self, split: str, number: int, size: int, objects: dict[int, np.ndarray]
    ) -> ImagesAndQuestions:
        """Return the images and questions of a split: types in turn, items of a type in turn."""
        by_type = list(self.combinations.items(split).values())
        images, questions = [], []
        for i in range(size):
            items = by_type[i % len(by_type)]
            item = items[i // len(by_type) % len(items)]
            generator = np.random.default_rng((self.seed, number, i))
            scene = self.combinations.scene(item, split, generator)
            images.append(paint(scene, objects, (LINES, LINES), generator))
            questions.append(item.question)
        return torch.from_numpy(np.stack(images)), questions

    def _train_tokenizer(self) -> Tokenizer:
        """Return a tokenizer whose tokens are the words of all questions and answers."""
        items = self.combinations.items("train")
        questions = [item.question for of_type in items.values() for item in of_type]
        texts = {q.text for q in questions} | {q.answer for q in questions}
        special = (*SPECIAL_TOKENS, "<image>")
        return train_tokenizer("wordpiece", sorted(texts), special_tokens=special)

    @property
    def image_token_id(self) -> int:
        """The id of the tokens in place of patches."""
        return self.need_tokenizer().need("image")

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of "train" (shuffled), "val" or "test"."""
        images, questions = self.splits[split]
        samples = QuestionSamples(
            self.scaled_samples(split, images, torch.arange(len(images))),
            self._texts(questions),
            torch.tensor([QUESTION_TYPES.index(question.type) for question in questions]),
            self.image_token_id if self.image_tokens else None,
        )
        is_train = split == "train"
        sampler = BatchSampler(len(images), self.batch_size, shuffle=is_train, seed=self.seed)
        return BatchLoader(samples, sampler)

    def _texts(self, questions: Sequence[SceneQuestion]) -> Ragged:
        """Return <bos> and the token ids of each question, labelled by the answer at the end."""
        tokenizer = self.need_tokenizer()
        rows = tokenizer.encode_batch([question.text for question in questions])
        answers = tokenizer.encode_batch([question.answer for question in questions])
        start = tokenizer.need("bos")
        ids = [np.array([start, *row.tolist()]) for row in rows]
        labels = [np.full(len(row), IGNORE_INDEX) for row in ids]
        for row, answer in zip(labels, answers, strict=True):
            (row[-1],) = answer.tolist()
        return Ragged(ids, labels)
