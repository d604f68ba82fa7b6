"""Files of classes in folders, one per class, perhaps below folders of splits."""

from __future__ import annotations

import unicodedata
import warnings
from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from graphformer.data.splits import split_samples, split_stratified
from graphformer.data.vision.base import ImagesAndLabels, PatchImages
from graphformer.data.vision.files import find_files, find_folder, is_ignored
from graphformer.data.vision.samples import Subset

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of the folders of each split, in lower case."""

LabelledFiles = list[tuple[Path, int]]
"""Files and the number of the class of each."""


class ReadFiles(Protocol):
    """Files as images [C, height, width], read when they are accessed."""

    files: Any

    def __len__(self) -> int: ...

    def __getitem__(self, i: Any) -> Any: ...

    def readable(self) -> list[int]:
        """Return the indices of the files that can be read."""


class ClassFolders(PatchImages):
    """Files in folders, one per class; the base of `ImageFolder` and `AudioFolder`.

    A subclass sets `path`, `root`, `fractions` (shares of "val" and "test"), `stratify` and
    `skip_corrupt`.

    Attributes (after `setup`):
        classes: names of the classes, those of a checkpoint that was loaded before.
    """

    noun: ClassVar[str]
    path: str
    root: str | None
    fractions: tuple[float, float]
    stratify: bool = True
    skip_corrupt: bool = False
    classes: list[str]

    @abstractmethod
    def suffixes(self) -> Collection[str]:
        """Return the endings of the files, in lower case."""

    @abstractmethod
    def open_files(self, files: Sequence[Path]) -> ReadFiles:
        """Return files as images that are read when they are accessed."""

    def read(self) -> dict[str, ImagesAndLabels]:
        """Return the files of each split, which are read when they are accessed."""
        folders = split_folders(find_folder(self.path, self.root))
        self.classes = list(class_folders(folders["train"]))
        files = {
            split: self._readable(
                class_files(folder, self.classes, self.suffixes(), self.noun + "s")
            )
            for split, folder in folders.items()
        }
        missing = set(range(len(self.classes))) - {label for _, label in files["train"]}
        if missing:
            raise ValueError(
                f"{folders['train'] / self.classes[min(missing)]}: got no {self.noun} that can be "
                "read, expected one or more; repair some, or remove the folder of that class"
            )
        if self.stratify:
            labels = [label for _, label in files["train"]]
            files = split_stratified(files, labels, self.fractions, self.seed)
        else:
            files = split_samples(files, self.fractions, self.seed)
        return {split: self._images(pairs) for split, pairs in files.items()}

    def setup(self, stage: str | None = None) -> None:
        """Read the folders; classes of a checkpoint that was loaded before keep their numbers."""
        if self.splits:
            return
        restored = self.classes
        super().setup(stage)
        if restored:
            found, self.classes = self.classes, restored
            self._renumber(found)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the class names, for a checkpoint."""
        state = super().state_dict()
        return {**state, "classes": list(self.classes)} if self.classes else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the statistics and the class names of a checkpoint.

        Raises:
            ValueError: when the folders that were read have a class that the run does not have.
        """
        super().load_state_dict(state_dict)
        if "classes" in state_dict:
            found, self.classes = self.classes, list(state_dict["classes"])
            self._renumber(found)

    def sample_names(self, split: str) -> list[str]:
        """Return each file of a split, relative to the folder."""
        images: Any = self.splits[split][0]
        rows = None
        if isinstance(images, Subset):
            images, rows = images.images, images.rows
        folder = find_folder(self.path, self.root)
        names = [file.relative_to(folder).as_posix() for file in images.files]
        return names if rows is None else [names[row] for row in rows]

    def _renumber(self, found: list[str]) -> None:
        """Change the labels from positions in `found` to positions in `self.classes`."""
        unknown = sorted(set(found) - set(self.classes))
        if unknown:
            raise ValueError(
                f"{self.path}: got the classes {', '.join(unknown)}, expected those of the run, "
                f"{', '.join(self.classes)}; rename or remove these folders"
            )
        numbers = torch.tensor([self.classes.index(name) for name in found], dtype=torch.int64)
        for split, (images, labels) in self.splits.items():
            self.splits[split] = (images, numbers[labels])
        self.num_classes = len(self.classes)

    def _images(self, pairs: LabelledFiles) -> ImagesAndLabels:
        labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
        return self.open_files([file for file, _ in pairs]), labels

    def _readable(self, pairs: LabelledFiles) -> LabelledFiles:
        if not self.skip_corrupt:
            return pairs
        return [pairs[i] for i in self.open_files([file for file, _ in pairs]).readable()]


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each split that has one; all of `folder` is "train" without any.

    A folder called "train" without folders in it is a class of that name.

    Raises:
        ValueError: when two folders are of one split, or there is none to train on.
    """
    below = sorted(p for p in folder.iterdir() if p.is_dir() and not is_ignored(p.name))
    found: dict[str, Path] = {}
    others = []
    for path in below:
        split = next((s for s, names in SPLIT_FOLDERS.items() if path.name.lower() in names), None)
        if split is None or not list_class_folders(path):
            others.append(path.name)
        elif split in found:
            raise ValueError(
                f"{folder}: got the folders {found[split].name} and {path.name}, expected one of "
                f"the split {split!r}; move their contents into one"
            )
        else:
            found[split] = path
    if not found or ("train" not in found and others):
        return {"train": folder}
    if "train" not in found:
        raise ValueError(
            f"{folder}: got the folders {', '.join(p.name for p in found.values())}, expected also "
            "train, with a folder per class"
        )
    if others:
        warnings.warn(
            f"{folder}: left out {', '.join(others)} next to the folders of splits", stacklevel=2
        )
    return {split: found[split] for split in SPLIT_FOLDERS if split in found}


def list_class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the folders of each class, sorted by name.

    Names are compared in Unicode's composed form (NFC): macOS writes the decomposed one.
    """
    folders: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if path.is_dir() and not is_ignored(path.name):
            folders.setdefault(unicodedata.normalize("NFC", path.name), []).append(path)
    return dict(sorted(folders.items()))


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the folders of each class, sorted by name.

    Raises:
        ValueError: when there is none.
    """
    folders = list_class_folders(folder)
    if not folders:
        raise ValueError(f"{folder}: got no folders, expected one for each class")
    return folders


def class_files(
    folder: Path, classes: Sequence[str], suffixes: Collection[str], noun: str
) -> LabelledFiles:
    """Return the files of every class that has a folder, and the class of each.

    A warning states the number of other files.

    Args:
        folder: of the folders of the classes.
        classes: their names.
        suffixes: endings of the files, such as ".png", in lower case.
        noun: what the files are, for messages: "images".

    Raises:
        ValueError: when a folder has no such files, or is none of the classes.
    """
    files: LabelledFiles = []
    left_out = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes]
    for name, folders in class_folders(folder).items():
        if name not in classes:
            raise ValueError(
                f"{folder / name}: got a class that is not in the training split, expected "
                f"{', '.join(classes)}; add a folder of that name with {noun} there, or remove it"
            )
        found = [find_files(of_class, suffixes) for of_class in folders]
        own = [file for chosen, _ in found for file in chosen]
        left_out += [file for _, others in found for file in others]
        if not own:
            raise ValueError(
                f"{folder / name}: got no {noun}, expected one or more; add some, or remove the "
                "folder of that class"
            )
        label = classes.index(name)
        files += [(file, label) for file in own]
    if left_out:
        endings = sorted({file.suffix or file.name for file in left_out})
        warnings.warn(
            f"{folder}: left out {len(left_out)} files that are no {noun} of a class "
            f"({', '.join(endings)}), first {left_out[0]}",
            stacklevel=2,
        )
    return files
