"""`ImageTable`: image files with classes or labels in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from graphformer.data.io.cache import MissingDataError
from graphformer.data.io.tabular import find_records, get_field, get_text, read_records
from graphformer.data.label_sets import label_numbers, labels_of, sort_labels
from graphformer.data.splits import split_samples, split_stratified
from graphformer.data.vision.base import ImagesAndLabels, PatchImages, PatchImagesOptions
from graphformer.data.vision.files import EncodedImage, ImageFiles, find_folder
from graphformer.options import checked_options

Row = tuple[Path | EncodedImage, str]
"""An image and its label field."""
_SPLITS = ("train", "val", "test")


class ImageTable(PatchImages):
    """Images of a table with a row for each: its class, and its file's name or content.

    Contents, as Parquet and Arrow files and data sets of the Hub have them, are kept in memory. The
    class names are part of a run's checkpoint; other tables of a run may lack classes, but add
    none.

    Args:
        path: the table (.csv, .tsv, .jsonl, .parquet or .arrow), as it is or under the data root;
            or the name of a data set of the Hub, such as hf:ylecun/mnist?split=train.
        folder: of the images; by default that of the table.
        val_path, test_path: tables of the same form; else the column `split`, or random fractions.
        image, label: columns of the file name, relative to the folder, or of the file's content;
            and of the class.
        label_separator: between the labels of an image, such as ";", for the task
            MultiLabelClassification; y is then [B, K]. An empty field is an image without labels.
        split: column with train, val or test; None for random splits.
        encoding: of the tables, such as "latin-1".
        patch_size, batch_size, options: of `PatchImages`.
        size: height and width that images are resized to; with None each keeps its own, cropped
            at the centre to multiples of `patch_size`, and a batch has several sizes.
        channels: 3 for colour, 1 for grey.
        val_fraction, test_fraction: shares of the training images for missing splits, of each class
            where an image has one.
        root: the data root.

    Raises:
        MissingDataError: when the table or an image does not exist.
        ValueError: when a row is malformed, or a label is not among those of the checkpoint.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        folder: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        image: str = "image",
        label: str = "label",
        label_separator: str | None = None,
        split: str | None = None,
        encoding: str = "utf-8",
        patch_size: int = 8,
        batch_size: int = 32,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        **options: Unpack[PatchImagesOptions],
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            batch_size=batch_size,
            val_size=0,
            **options,
        )
        self.save_hyperparameters(logger=False)
        paths = {"train": path, "val": val_path, "test": test_path}
        self.paths = {name: file for name, file in paths.items() if file is not None}
        self.folder, self.image, self.label, self.split = folder, image, label, split
        self.label_separator, self.encoding = label_separator, encoding
        self.size, self.channels, self.root = size, channels, root
        self.fractions = (val_fraction, test_fraction)
        self.classes: list[str] = []
        self._rows: dict[str, list[Row]] = {}

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the files of each split, whose images are read when they are accessed."""
        rows: dict[str, list[Row]] = {}
        for split, path in self.paths.items():
            for name, row in self._read_table(path, split):
                rows.setdefault(name, []).append(row)
        if not rows.get("train"):
            raise ValueError(f"{self.paths['train']}: got no rows to train on, expected some")
        fields = [field for _, field in rows["train"]]
        found = {label for of in rows.values() for _, field in of for label in self._labels(field)}
        self.classes = self.classes or sort_labels(found)
        if self.label_separator is None:
            numbers = label_numbers(fields, self.classes, None, self.paths["train"]).tolist()
            self._rows = split_stratified(rows, numbers, self.fractions, self.seed)
        else:
            self._rows = split_samples(rows, self.fractions, self.seed)
        return {split: self._samples(split) for split in _SPLITS}

    def setup(self, stage: str | None = None) -> None:
        """Read the table once; the number of classes is that of the names."""
        super().setup(stage)
        self.num_classes = len(self.classes)

    def sample_names(self, split: str) -> list[str]:
        """Return the file of each image of a split, relative to the folder."""
        folder = self._folder(self.paths.get(split, self.paths["train"]))
        return [
            file.name if isinstance(file, EncodedImage) else file.relative_to(folder).as_posix()
            for file, _ in self._rows[split]
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the class names, for a checkpoint."""
        state = super().state_dict()
        return {**state, "classes": list(self.classes)} if self.classes else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the statistics and the class names of a checkpoint.

        Raises:
            ValueError: when the table that was read has a class that the run does not have.
        """
        super().load_state_dict(state_dict)
        self.classes = list(state_dict.get("classes", self.classes))
        for split, (images, _) in self.splits.items():
            self.splits[split] = (images, self._numbers(split))
        self.num_classes = len(self.classes)

    def _labels(self, field: str) -> list[str]:
        return labels_of(field, self.label_separator)

    def _numbers(self, split: str) -> Tensor:
        fields = [field for _, field in self._rows[split]]
        source = self.paths.get(split, self.paths["train"])
        return label_numbers(fields, self.classes, self.label_separator, source)

    def _samples(self, split: str) -> ImagesAndLabels:
        files = [file for file, _ in self._rows[split]]
        images = ImageFiles(files, size=self.size, channels=self.channels, multiple=self.patch_size)
        return images, self._numbers(split)

    def _folder(self, path: str) -> Path:
        if self.folder is not None:
            return find_folder(self.folder, self.root)
        return find_records(path, self.root).parent

    def _read_table(self, path: str, default: str) -> list[tuple[str, Row]]:
        """Return the split and the row of each line of a table."""
        table, folder = find_records(path, self.root), self._folder(path)
        rows = []
        for number, record in read_records(table, encoding=self.encoding):
            file = self._image(record, table, folder, number)
            field = get_text(record, self.label, table, number)
            if self.label_separator is None and not field.strip():
                raise ValueError(f"{table}, line {number}: got no class of {file}, expected one")
            split = default
            if self.split is not None and default == "train":
                split = get_text(record, self.split, table, number).lower()
                if split not in _SPLITS:
                    raise ValueError(
                        f"{table}, line {number}: got {split!r} in the column {self.split!r}, "
                        "expected train, val or test; correct it"
                    )
            rows.append((split, (file, field)))
        return rows

    def _image(
        self, record: dict[str, Any], table: Path, folder: Path, number: int
    ) -> Path | EncodedImage:
        """Return the image of a row: a file, or the content that the library `datasets` stores."""
        value = get_field(record, self.image, table, number)
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return EncodedImage(value.get("path") or f"row {number}", value["bytes"])
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            record = {self.image: value["path"]}
        file = folder / get_text(record, self.image, table, number)
        if not file.is_file():
            raise MissingDataError(
                f"{table}, line {number}: there is no image {file}; put it there, or set folder"
            )
        return file
