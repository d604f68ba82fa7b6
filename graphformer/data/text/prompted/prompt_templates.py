"""Jinja templates of a source and a target over the records of data sets, as in T0."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import Required, TypedDict

from graphformer.data.io.tabular import find_file, find_records, read_records
from graphformer.data.text.base import FilePath
from graphformer.data.text.classification import LabelledText
from graphformer.data.text.conllu import read_conllu

Record = dict[str, Any]


class Prompt(TypedDict, total=False):
    """Two Jinja templates over the fields of a record.

    Attributes:
        source: the text to read.
        target: the text to write.
        held_out: whether it is for validation and test only.
    """

    source: Required[str]
    target: Required[str]
    held_out: bool


class PromptedFile(TypedDict, total=False):
    """A data set with its prompts.

    Attributes:
        path: JSON lines or a table, whose fields a record has; CoNLL-U, whose records have the
            lists words and tags (parts of speech); or, with classes, a folder or archive, whose
            records have text and label.
        prompts: of each record.
        classes, lines, encoding: as of `LabelledText`.
        held_out: whether the data set is for validation and test only.
    """

    path: Required[str]
    prompts: Required[list[Prompt]]
    classes: dict[str, str]
    lines: bool
    encoding: str
    held_out: bool


def read_prompted(file: PromptedFile, root: FilePath | None) -> list[Record]:
    """Return the records of a data set.

    Raises:
        MissingDataError: when there is no such file.
        ValueError: when a line is malformed; the message names it.
    """
    path, encoding = file["path"], file.get("encoding", "utf-8")
    if file.get("classes") is not None:
        data = LabelledText(
            path,
            encoding=encoding,
            classes=file["classes"],
            lines=file.get("lines", False),
            root=None if root is None else os.fspath(root),
        )
        return [{"text": text, "label": str(label)} for text, label in data.read(path)]
    if ".conllu" in Path(path).suffixes:
        sentences = read_conllu(find_file(path, root))
        return [{"words": list(s.forms), "tags": list(s.labels)} for s in sentences]
    return [record for _, record in read_records(find_records(path, root), encoding=encoding)]


class Renderer:
    """Fills in the source and the target of a prompt; templates run in a sandbox.

    Args:
        prompt: with two templates.
        place: the data set, for messages.

    Raises:
        ValueError: when a template is malformed.
    """

    def __init__(self, prompt: Prompt, place: str) -> None:
        self.place = place
        parts = {"source": prompt["source"], "target": prompt["target"]}
        self.templates = {n: _compile(text, f"{place}, {n}") for n, text in parts.items()}

    def __call__(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Return source and target of a record, without blanks around them.

        Raises:
            ValueError: when the record lacks a field, or a template does not apply to it.
        """
        return self._render("source", record), self._render("target", record)

    def _render(self, name: str, record: Mapping[str, Any]) -> str:
        try:
            return self.templates[name].render(record).strip()
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.place}, {name}: {error}, expected a template over the fields "
                f"{', '.join(record)}; correct it"
            ) from None


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def _compile(template: str, place: str) -> Template:
    try:
        return _ENVIRONMENT.from_string(template)
    except TemplateError as error:
        raise ValueError(
            f"{place}: got {template!r} ({error}), expected a Jinja template; correct it"
        ) from None


def render_all(renderer: Renderer, records: list[Record]) -> Iterator[tuple[str, str]]:
    """Yield source and target of the records for which neither is empty, as in T0."""
    for record in records:
        source, target = renderer(record)
        if source and target:
            yield source, target
