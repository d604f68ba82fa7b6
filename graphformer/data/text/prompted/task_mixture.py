"""`TaskMixture`: many data sets with prompts, as one set of pairs of texts, as in T0."""

from __future__ import annotations

import numpy as np

from graphformer.data.batch import IGNORE_INDEX
from graphformer.data.loader import BatchLoader
from graphformer.data.ragged import Ragged, RaggedPairs
from graphformer.data.splits import split_samples
from graphformer.data.text.base import TokenizedData
from graphformer.data.text.prompted.prompt_templates import (
    PromptedFile,
    Record,
    Renderer,
    read_prompted,
    render_all,
)
from graphformer.data.text.tokenizer_training import make_tokenizer
from graphformer.data.token_budget import budget_loader
from graphformer.deprecated import renamed_keywords

Pair = tuple[str, str]


class TaskMixture(TokenizedData):
    """Prompts of several data sets, mixed in proportion to their sizes up to a cap.

    Each record comes once with each prompt of its data set. A data set with more records than `cap`
    comes with cap / (number of its prompts) random records for each prompt. Batches are those of
    `TextPairs`; with `decoder` a sample is the source followed by the target, x [N], and the labels
    y [N] are the tokens of the target and <eos>, -100 before, for `LanguageModeling`.

    Where data sets or prompts are held out, validation and test have these only, which measures
    generalisation to new tasks or new wordings; otherwise they have all. Records whose source or
    target is empty are left out.

    Args:
        tasks: data sets by name, each with path and prompts, see `PromptedFile`.
        cap: number of examples of a data set above which it is reduced.
        decoder: whether the batches are for a decoder rather than an encoder-decoder.
        vocabulary: "characters", "bytes", a file of `graphformer tokenize`, or "bpe" or
            "wordpiece" to train one on the training split.
        vocabulary_size: maximum number of tokens to train.
        max_length: maximum number of tokens of a source and of a target; longer pairs are dropped
            from the training split, and cut in the others.
        max_tokens, max_edges: the budget of a batch; edges are all pairs of a sample's tokens.
        val_fraction, test_fraction: of the records of each data set.
        root: the data root.
        seed: of the random splits and of the order.

    Raises:
        MissingDataError: when a file does not exist.
        ValueError: when there is no prompt to train on, the cap is below 1, or a template is wrong.

    Source: Sanh et al., 2022, "Multitask Prompted Training Enables Zero-Shot Task Generalization".
    """

    def __init__(
        self,
        tasks: dict[str, PromptedFile],
        *,
        cap: int = 500_000,
        decoder: bool = False,
        vocabulary: str = "bpe",
        vocabulary_size: int = 8192,
        max_length: int = 128,
        max_tokens: int = 4096,
        max_edges: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if cap < 1:
            raise ValueError(f"cap: got {cap}, expected 1 or more")
        trained = [n for n, t in tasks.items() if not t.get("held_out", False)]
        if not any(not p.get("held_out", False) for n in trained for p in tasks[n]["prompts"]):
            raise ValueError(
                f"tasks: got {', '.join(tasks) or 'none'} without a prompt to train on, expected "
                "one or more that are not held out; add one"
            )
        self.tasks, self.cap, self.decoder = tasks, cap, decoder
        self.vocabulary, self.vocabulary_size = vocabulary, vocabulary_size
        self.max_length, self.max_tokens, self.max_edges = max_length, max_tokens, max_edges
        self.fractions, self.root, self.seed = (val_fraction, test_fraction), root, seed
        self.pairs: dict[str, list[Pair]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the data sets, fill in their prompts, and make the tokenizer."""
        if not self.pairs:
            self.pairs = self._read_pairs()
        if self.tokenizer is None:
            texts = [text for pair in self.pairs["train"] for text in pair]
            self.tokenizer = make_tokenizer(self.vocabulary, texts, vocab_size=self.vocabulary_size)

    def _read_pairs(self) -> dict[str, list[Pair]]:
        """Return the pairs of source and target of each split."""
        pairs: dict[str, list[Pair]] = {"train": [], "val": [], "test": []}
        has_held_out = any(
            task.get("held_out", False) or any(p.get("held_out", False) for p in task["prompts"])
            for task in self.tasks.values()
        )
        for name, task in self.tasks.items():
            records = {"train": read_prompted(task, self.root)}
            splits = split_samples(records, self.fractions, self.seed)
            for number, prompt in enumerate(task["prompts"]):
                renderer = Renderer(prompt, f"tasks, {name}, prompt {number}")
                held_out = task.get("held_out", False) or prompt.get("held_out", False)
                chosen = self._capped(splits["train"], len(task["prompts"]), (number, name))
                if not held_out:
                    pairs["train"] += render_all(renderer, chosen)
                if held_out or not has_held_out:
                    for split in ("val", "test"):
                        pairs[split] += render_all(renderer, splits[split])
        return pairs

    def _capped(
        self, records: list[Record], num_prompts: int, key: tuple[int, str]
    ) -> list[Record]:
        """Return the training records of a prompt, by the rule of T0 for large data sets."""
        if len(records) <= self.cap:
            return records
        number, name = key
        generator = np.random.default_rng((self.seed, number, *name.encode()))
        chosen = generator.permutation(len(records))[: max(1, self.cap // num_prompts)]
        return [records[i] for i in np.sort(chosen)]

    def samples(self, split: str) -> Ragged | RaggedPairs:
        """Return the token ids of a split's pairs, none longer than `max_length`."""
        tokenizer = self.need_tokenizer()
        sources, targets = (
            [
                ids.numpy()
                for ids in tokenizer.encode_batch([pair[side] for pair in self.pairs[split]])
            ]
            for side in (0, 1)
        )
        limit = self.max_length
        if split == "train":
            short = [p for p in zip(sources, targets, strict=True) if max(map(len, p)) <= limit]
            sources, targets = [s for s, _ in short], [t for _, t in short]
        else:
            sources, targets = [s[:limit] for s in sources], [t[:limit] for t in targets]
        if not self.decoder:
            start_id, end = tokenizer.need("bos"), tokenizer.need("eos")
            return RaggedPairs(sources, targets, start=start_id, end=end)
        # Tokenizers of public decoders may lack either, such as that of SmolLM2's GGUF.
        start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        end = IGNORE_INDEX if tokenizer.eos_id is None else tokenizer.eos_id
        rows = [
            np.concatenate([np.array(start, np.int64), *pair])
            for pair in zip(sources, targets, strict=True)
        ]
        labels = [
            np.concatenate([np.full(len(start) + len(source) - 1, IGNORE_INDEX), target, [end]])
            for source, target in zip(sources, targets, strict=True)
        ]
        return Ragged(rows, labels)

    @renamed_keywords(part="split")
    def batches(self, split: str) -> BatchLoader:
        """Return the batches of a split within the budget, the training split's shuffled."""
        return budget_loader(
            self.samples(split),
            split,
            max_tokens=self.max_tokens,
            max_edges=self.max_edges,
            seed=self.seed,
        )
