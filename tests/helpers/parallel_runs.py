"""Small data sets and networks to train on one process and on several."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.stored_graphs import arrays, store
from torch import Tensor, nn
from torch_geometric.data import Data

from graphformer import models, tasks
from graphformer.data import Characters, StoredNodes
from graphformer.data.base import DataModule
from graphformer.data.batch import IGNORE_INDEX, pack_images, pack_tokens
from graphformer.data.graph.datasets import GraphDataset
from graphformer.data.graph.link_splits import split_links
from graphformer.data.graph.node_datasets import FullGraph
from graphformer.data.loader import BatchDataset, BatchLoader, BatchSampler
from graphformer.data.token_budget import TokenBudgetSampler
from graphformer.patterns import Complete, Edges
from graphformer.tasks import Task

VOCAB = 11


class Texts:
    """Texts of several lengths, with labels at some of their tokens; the first text has none."""

    def __init__(self, count: int) -> None:
        generator = np.random.default_rng(1)
        self.sizes = generator.integers(2, 13, count)
        self.texts = [generator.integers(VOCAB, size=size) for size in self.sizes]
        self.labelled = [
            generator.random(size) < 0.5 * (i > 0) for i, size in enumerate(self.sizes)
        ]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Tensor) -> Data:
        batch = pack_tokens([self.texts[i] for i in index.tolist()])
        mask = torch.from_numpy(np.concatenate([self.labelled[i] for i in index.tolist()]))
        batch.y = ((batch.x + 1) % VOCAB).masked_fill(~mask, IGNORE_INDEX)
        return batch


class Pictures:
    """Images of 4 x 6 pixels in patches of 2, in three classes."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(2)
        self.images = torch.randn(count, 1, 4, 6, generator=generator)
        self.y = torch.randint(3, (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor) -> Data:
        batch = pack_images(self.images[index], 2)
        batch.y = self.y[index]
        return batch


class Captions:
    """Images of 4 x 6 pixels in patches of 2 with captions of several lengths."""

    def __init__(self, count: int) -> None:
        self.images, self.texts = Pictures(count).images, Texts(count).texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Tensor) -> Data:
        batch = pack_tokens([self.texts[i] for i in index.tolist()])
        batch.y = batch.x
        pictures = pack_images(self.images[index], 2)
        batch.source, batch.source_pos = pictures.x, pictures.pos
        batch.source_lengths, batch.source_shapes = pictures.lengths, pictures.shapes
        return batch


def random_graphs(count: int) -> GraphDataset:
    """Graphs of several sizes, of which every third one has no edges."""
    generator = torch.Generator().manual_seed(3)
    graphs = []
    for number in range(count):
        nodes = 3 + number % 5
        edges = torch.randint(nodes, (2, 0 if number % 3 == 0 else 11), generator=generator)
        x, y = torch.randn(nodes, 5, generator=generator), torch.tensor([number % 2])
        graphs.append(Data(x=x, edge_index=edges, y=y))
    return GraphDataset(graphs)


class Samples(DataModule):
    """A data set whose splits are the same; "val" and "test" are not shuffled."""

    def __init__(self, samples: BatchDataset, batch_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size = samples, batch_size

    def batches(self, split: str) -> BatchLoader:
        shuffle = split == "train"
        order = BatchSampler(len(self.samples), self.batch_size, shuffle=shuffle, seed=5)
        return BatchLoader(self.samples, order)


class Corpus(Samples):
    """Texts with a tokenizer: seven letters and four special tokens."""

    tokenizer = Characters("abcdefg", ["<mask>", "<bos>", "<eos>", "<pad>"])


class BudgetedTexts(DataModule):
    """Texts in batches of at most 29 tokens."""

    def __init__(self, samples: Texts) -> None:
        super().__init__()
        self.samples = samples

    def batches(self, split: str) -> BatchLoader:
        order = TokenBudgetSampler(self.samples.sizes, max_tokens=29, shuffle=split == "train")
        return BatchLoader(self.samples, order)


class Links(FullGraph):
    """A random graph whose edges are predicted."""

    def read(self) -> Data:
        generator = torch.Generator().manual_seed(4)
        edges = torch.randint(31, (2, 97), generator=generator)
        split = split_links(edges, 31, val_fraction=0.2, test_fraction=0.2, seed=0)
        return Data(x=torch.randn(31, 5, generator=generator), **split)


def text_model() -> nn.Module:
    return models.language_model(VOCAB, dim=12, depth=2, num_heads=2, max_length=13)


def build(name: str, batch_size: int, count: int = 23, **options: Any) -> tuple[Task, DataModule]:
    """A task and its data, the same for the same arguments."""
    torch.manual_seed(0)
    options = {"lr": 1e-2, **options}
    if name == "text":
        task: Task = tasks.LanguageModeling(text_model(), **options)
        return task, Samples(Texts(count), batch_size)
    if name == "experts":
        network = models.language_model(
            VOCAB, dim=12, depth=1, num_heads=2, max_length=13, num_experts=3
        )
        return tasks.LanguageModeling(network, balance=1.0, **options), Samples(
            Texts(count), batch_size
        )
    if name == "budget":
        return tasks.LanguageModeling(text_model(), **options), BudgetedTexts(Texts(count))
    if name == "images":
        vit = models.vit(3, dim=12, depth=1, num_heads=2, channels=1, patch_size=2)
        metrics = ("accuracy", "f1", "auroc")
        task = tasks.Classification(vit, Complete(), num_classes=3, metrics=metrics, **options)
        return task, Samples(Pictures(count), batch_size)
    if name == "graphs":
        network = models.graph_transformer(5, 2, dim=12, depth=1, num_heads=2, pool="mean")
        task = tasks.Classification(network, Edges(), num_classes=2, **options)
        return task, Samples(random_graphs(count), batch_size)
    if name in ("batch norm", "gcn batch norm"):
        network = graph_model_with_batch_norm(name)
        task = tasks.Classification(network, Edges(), num_classes=2, **options)
        return task, Samples(random_graphs(count), batch_size)
    if name == "sentences":
        network = models.sentence_embedder(VOCAB, dim=12, depth=1, num_heads=2, max_length=13)
        return tasks.SentenceContrast(network, **options), Samples(Texts(count), batch_size)
    if name == "captions":
        clip = models.clip(
            VOCAB, channels=1, patch_size=2, dim=12, depth=1, num_heads=2, text_depth=1
        )
        return tasks.ImageTextContrast(clip, **options), Samples(Captions(count), batch_size)
    if name in ("masked", "electra", "denoising"):
        return build_masked(name, options), Corpus(Texts(count), batch_size)
    if name == "mae":
        mae = models.mae(12, 1, 2, channels=1, patch_size=2, decoder_dim=8, decoder_heads=2)
        return tasks.MaskedImageModeling(mae, **options), Samples(Pictures(count), batch_size)
    if name in ("neighbors", "disjoint neighbors"):
        network = models.gat(5, 3, dim=3, num_heads=2, dropout=0.0)
        task = tasks.Classification(network, Edges(), num_classes=3, level="node", **options)
        return task, stored_neighbors(batch_size, disjoint=name != "neighbors")
    network = models.gat(5, 7, dim=3, num_heads=2, dropout=0.0)
    return tasks.LinkPrediction(network, Edges(self_loops=True), hits=5, **options), Links()


def graph_model_with_batch_norm(name: str) -> nn.Module:
    """A network that normalises the nodes of a batch together."""
    if name == "gcn batch norm":
        return models.gcn(5, 2, dim=7, depth=2, norm="batch", pool="mean")
    return models.gps(5, 2, dim=6, depth=1, num_heads=2, pool="mean", attention_dropout=0.0)


def build_masked(name: str, options: dict[str, Any]) -> Task:
    """A task that corrupts its texts."""
    sizes = {"dim": 12, "depth": 1, "num_heads": 2}
    if name == "denoising":
        return tasks.Denoising(models.encoder_decoder(VOCAB, **sizes), **options)
    network = models.bert(VOCAB, **sizes, max_length=13)
    if name == "masked":
        return tasks.MaskedLanguageModeling(network, mask_rate=0.4, **options)
    detector = models.token_tagger(VOCAB, 1, **sizes, max_length=13)
    return tasks.ReplacedTokenDetection(detector, network, mask_rate=0.4, **options)


def stored_neighbors(batch_size: int, *, disjoint: bool) -> DataModule:
    """Sampled neighbourhoods of a graph on disk."""
    folder = Path(tempfile.mkdtemp()) / "graph"
    store(folder, arrays(61, 499))
    return StoredNodes(str(folder), [3, 3], batch_size, disjoint=disjoint, seed=5)
