"""`Exportable`: models that are saved in the format of `transformers`, or uploaded to the Hub."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""Names of models on the Hub, "organisation/name"."""


class Exporter(Protocol):
    """Writes a model as a checkpoint folder; `graphformer.pretrained` attaches its own."""

    def __call__(self, model: Any, path: str | os.PathLike[str], /) -> None:
        """Write `model` to the folder `path`."""
        ...


class Exportable:
    """A model that `from_pretrained` may make, and that can then be saved in the same format."""

    exporter: Exporter | None = None
    """Writes the model in the checkpoint's format."""

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a folder in the format of `transformers`; see `graphformer.pretrained`.

        Raises:
            ValueError: when the model is not from a checkpoint.
        """
        if self.exporter is None:
            raise ValueError(
                "save_pretrained: got a model that is not from a checkpoint, expected one from "
                "gf.from_pretrained; use torch.save(model.state_dict(), path) instead"
            )
        self.exporter(self, path)

    def push_to_hub(
        self, name: str, *, private: bool = False, message: str = "Upload model"
    ) -> None:
        """Upload the model to the Hugging Face Hub, in the format of `transformers`.

        The account is that of `hf auth login` or of the variable HF_TOKEN.

        Args:
            name: "organisation/name"; it is created if it does not exist.
            private: whether a new repository is private.
            message: of the commit.

        Raises:
            ModuleNotFoundError: when the package `huggingface_hub` is not installed.
            ValueError: when the model is not from a checkpoint, or the name is malformed.
        """
        upload(self.save_pretrained, name, private=private, message=message)


def upload(save: Callable[[Path], None], name: str, *, private: bool, message: str) -> None:
    """Upload the folder that a function writes to a repository of the Hugging Face Hub.

    Args:
        save: writes the folder.
        name: "organisation/name"; it is created if it does not exist.
        private: whether a new repository is private.
        message: of the commit.

    Raises:
        ModuleNotFoundError: when the package `huggingface_hub` is not installed.
        ValueError: when the name is malformed.
    """
    if HUB_NAME.fullmatch(name) is None:
        raise ValueError(f"name: got {name!r}, expected 'organisation/name'")
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "push_to_hub: needs the package huggingface_hub; install it by pip install "
            '"graphformer[hf]"'
        ) from None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save(folder)
        api = huggingface_hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
