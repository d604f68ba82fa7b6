"""`PromptFile`: prompts with reference answers, for policy optimisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from graphformer.data.batch import Batch
from graphformer.data.io.tabular import find_records, get_text, read_records
from graphformer.data.loader import BatchLoader, BatchSampler
from graphformer.data.ragged import Ragged
from graphformer.data.text.base import FilePath
from graphformer.data.text.chat import Message
from graphformer.data.text.post_training.base import ChatData, ChatDataOptions
from graphformer.data.text.post_training.conversations import as_messages
from graphformer.options import checked_options


class Prompt(NamedTuple):
    """A conversation that the model continues, with a reference answer or ""."""

    messages: tuple[Message, ...]
    reference: str
    place: str


class PromptFile(ChatData[Prompt]):
    """Prompts of JSON lines or a table, `batch_size` of them in a batch.

    A batch of B prompts has x [N], pos [N], lengths, and the texts `prompts` (the last message) and
    `references`, B each. Training batches are in another order in every epoch.

    Args:
        path: .jsonl, .tsv or .csv, perhaps .gz.
        val_path, test_path: files of the same form; else fractions of `path`, at random.
        prompt: name of the field with a text or a list of messages.
        reference: name of the field with the reference answer; None: there is none.
        batch_size: prompts in a batch.
        max_length: maximum number of tokens of a prompt; longer ones are an error.
        options: of `ChatData`.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when a record is malformed or a prompt too long; the message names the line.
    """

    @checked_options
    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        *,
        prompt: str = "prompt",
        reference: str | None = None,
        batch_size: int = 16,
        max_length: int = 1024,
        **options: Unpack[ChatDataOptions],
    ) -> None:
        super().__init__(
            path,
            val_path,
            test_path,
            max_tokens=batch_size * max_length,
            max_edges=None,  # named, so that the command line does not offer it
            **options,
        )
        self.save_hyperparameters(logger=False)
        self.prompt, self.reference = prompt, reference
        self.batch_size, self.max_length = batch_size, max_length

    def read(self, path: FilePath) -> list[Prompt]:
        """Return the prompts of a file."""
        return list(read_prompts(find_records(path, self.root), self.prompt, self.reference))

    def conversations(self, split: str) -> list[Sequence[Message]]:
        """Return the prompts of a split."""
        return [prompt.messages for prompt in self.splits[split]]

    def samples(self, split: str) -> PromptSamples:
        """Return the token ids and texts of a split's prompts."""
        encoder, rows = self.chat_encoder(), []
        for messages, _, place in self.splits[split]:
            try:
                rows.append(encoder.prompt(messages))
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            if len(rows[-1]) > self.max_length:
                raise ValueError(
                    f"max_length: got {self.max_length}, but the prompt of {place} has "
                    f"{len(rows[-1])} tokens, expected at most as many; raise max_length, or "
                    "remove the line"
                )
        texts = [prompt.messages[-1]["content"] for prompt in self.splits[split]]
        return PromptSamples(rows, texts, [prompt.reference for prompt in self.splits[split]])

    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split, the training split's shuffled."""
        return prompt_loader(self.samples(split), split, self.batch_size, self.seed)


class PromptSamples:
    """Prompts as token ids and texts; see `PromptFile` for a batch.

    Args:
        rows: token ids of each prompt.
        prompts, references: texts, as many.
    """

    def __init__(
        self, rows: Sequence[np.ndarray], prompts: Sequence[str], references: Sequence[str]
    ) -> None:
        self.rows, self.prompts, self.references = Ragged(rows), prompts, references
        self.lengths = self.rows.lengths
        self.num_edges: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Batch:
        batch = self.rows[index]
        batch.prompts = tuple(self.prompts[i] for i in index.tolist())
        batch.references = tuple(self.references[i] for i in index.tolist())
        return batch


def prompt_loader(samples: PromptSamples, split: str, batch_size: int, seed: int) -> BatchLoader:
    """Return batches of prompts, those of "train" shuffled.

    Args:
        samples: of the split.
        split: its name.
        batch_size: prompts in a batch.
        seed: of the order.

    Raises:
        ValueError: when there are no prompts.
    """
    if not len(samples):
        raise ValueError(
            f"the {split} split of the data has no prompts; add some, set its path, or raise its "
            "fraction"
        )
    sampler = BatchSampler(len(samples), batch_size, shuffle=split == "train", seed=seed)
    return BatchLoader(samples, sampler)


def read_prompts(path: Path, prompt: str, reference: str | None) -> Iterator[Prompt]:
    """Yield the prompts of a file of JSON lines or of a table.

    Args:
        path: of the file.
        prompt: name of the field with a text or a list of messages.
        reference: name of the field with the reference answer; None: there is none.

    Raises:
        ValueError: when a record lacks a field; the message names the line.
    """
    for number, record in read_records(path):
        place = f"{path}, line {number}"
        value = record.get(prompt)
        is_list = isinstance(value, list)
        asked = value if is_list else get_text(record, prompt, path, number)
        answer = "" if reference is None else get_text(record, reference, path, number)
        yield Prompt(tuple(as_messages(asked, "user", place)), answer, place)
