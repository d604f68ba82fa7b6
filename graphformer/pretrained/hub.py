"""Models of the Hugging Face Hub: which texts may name one, and download of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphformer.models.exportable import HUB_NAME

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""The files that are downloaded: no pickles, no other formats of the weights."""
OWN_FILES = ["model.ckpt", "config.yaml", "README.md"]
"""The files of a model that was trained here; the checkpoint is read without unpickling objects."""


def is_hub_name(source: str) -> bool:
    """Whether a text may be the name of a model on the Hub, "organisation/name", and no path."""
    return HUB_NAME.fullmatch(source) is not None and not Path(source).exists()


def download(name: str, revision: str | None = None, *, further_files: Sequence[str] = ()) -> Path:
    """Download a model of the Hub, once, and return its folder.

    Args:
        name: "organisation/name".
        revision: a branch, tag or commit; the main branch by default.
        further_files: files that are downloaded beside `FILES`.

    Raises:
        FileNotFoundError: when there is no such model, or the Hub cannot be reached.
        ModuleNotFoundError: when the package `huggingface_hub` is not installed.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"source: got {name!r}, which is no folder, and a model of the Hub needs the package "
            'huggingface_hub; install it by pip install "graphformer[hf]"'
        ) from None
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=[*FILES, *further_files]
        )
    except Exception as error:  # noqa: BLE001 - errors of several HTTP libraries
        reason = " ".join(str(error).split())[:200]
        raise FileNotFoundError(
            f"source: got {name!r}, which is neither a folder nor a model of the Hub that can be "
            f"downloaded ({reason}); pass the folder of a checkpoint"
        ) from None
    return Path(folder)
