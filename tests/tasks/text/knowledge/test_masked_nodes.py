from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tasks import trainer
from helpers.wordnet import write_animals
from torch.nn import functional as F

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.data import WordKnowledgeGraphs
from graphformer.patterns import Complete, Documents, Edges, Pattern
from graphformer.tasks import MaskedNodeModeling
from graphformer.tasks.text.knowledge.masked_nodes import (
    MaskIds,
    distractor_loss,
    mask_nodes,
    start_with_names,
    typed_losses,
)

STARTS = (0, 5, 9, 11)  # words, entities, relations
IDS = MaskIds(mask=4, special=(0,))
KNOWLEDGE = Documents() | Edges(undirected=True)


class Drawn:
    """A generator that draws given numbers."""

    def __init__(self, *draws: list[float]) -> None:
        self.draws = iter(draws)

    def random(self, count: int) -> np.ndarray:
        drawn = np.array(next(self.draws))
        assert len(drawn) == count
        return drawn


def small_batch() -> Batch:
    x = torch.tensor([0, 5, 2, 9, 6, 10, 8])  # <cls>, entity, word, relation, tail; a fact
    kinds = torch.tensor([0, 1, 0, 2, 1, 2, 1])
    target = torch.tensor([4])
    return Batch(x=x, token_types=kinds, lengths=(7,), kind_starts=STARTS, target_index=target)


def test_masked_nodes_by_hand() -> None:
    draws = [0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1], [0.6] * 7, [0.1, 0.85, 0.5, 0.1, 0.1, 0.95, 0.1]
    masked, labels = mask_nodes(small_batch(), [Drawn(*draws)], IDS, dict.fromkeys((0, 1, 2), 0.15))
    # <cls> is special; entity 5 becomes the random entity 5 + int(0.6 * 4); the word and the last
    # entity are masked; the tail is masked without a label; relation 10 is kept.
    assert masked.x.tolist() == [0, 7, 4, 9, 4, 10, 4]
    assert labels.tolist() == [-100, 5, 2, -100, -100, 10, 8]


def test_only_words_are_masked_for_their_perplexity() -> None:
    draws = [0.0] * 7, [0.0] * 7, [0.0] * 7
    masked, labels = mask_nodes(small_batch(), [Drawn(*draws)], IDS, {0: 0.15})
    assert masked.x.tolist() == [0, 5, 4, 9, 4, 10, 8]
    assert labels.tolist() == [-100, -100, 2, -100, -100, -100, -100]


def test_words_have_a_rate_of_their_own() -> None:
    draws = [0.3] * 7, [0.0] * 7, [0.0] * 7
    rates = {0: 0.5, 1: 0.2, 2: 0.4}
    masked, labels = mask_nodes(small_batch(), [Drawn(*draws)], IDS, rates)
    assert masked.x.tolist() == [0, 5, 4, 4, 4, 4, 8]
    assert labels.tolist() == [-100, -100, 2, 9, -100, 10, -100]
    task = MaskedNodeModeling(torch.nn.Identity(), word_mask_rate=0.6)
    assert task.mask_rates == {0: 0.6, 1: 0.15, 2: 0.15}


def test_words_of_facts_are_not_masked() -> None:
    batch = small_batch()
    batch.x, batch.token_types = batch.x.clone(), batch.token_types.clone()
    batch.x[6], batch.token_types[6] = 3, 3
    draws = [0.0] * 7, [0.0] * 7, [0.0] * 7
    masked, labels = mask_nodes(batch, [Drawn(*draws)], IDS, dict.fromkeys((0, 1, 2), 0.15))
    assert masked.x.tolist() == [0, 4, 4, 4, 4, 4, 3]
    assert labels.tolist() == [-100, 5, 2, 9, -100, 10, -100]


def test_each_kind_has_a_softmax_of_its_own() -> None:
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([7, 1, 10])
    expected = (
        F.cross_entropy(logits[:1, 5:9], torch.tensor([2]))
        + F.cross_entropy(logits[1:2, :5], torch.tensor([1]))
        + F.cross_entropy(logits[2:, 9:], torch.tensor([1]))
    )
    torch.testing.assert_close(typed_losses(logits, labels, STARTS), expected)


def test_distractor_loss_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.5, -1.0]])
    batch = Batch(y=torch.tensor([1]), distractors=torch.tensor([[0, 2]]))
    # max(0, 1 - 3 + 1) = 0 and max(0, 1 - 3 + 2.5) = 0.5
    assert distractor_loss(scores, batch, margin=1.0).item() == 0.25
    batch.distractors = batch.distractors[:, :0]
    assert distractor_loss(scores, batch, margin=1.0).item() == 0


def animals(tmp_path: Path, **options: int) -> WordKnowledgeGraphs:
    return WordKnowledgeGraphs(
        (str(write_animals(tmp_path)),),
        subtree="animal",
        vocabulary="bytes",
        num_distractors=2,
        max_tokens=256,
        val_fraction=0.15,
        test_fraction=0.15,
        **options,
    )


def test_numbers_of_distractors(tmp_path: Path) -> None:
    data = animals(tmp_path)
    data.num_distractors = 0
    data.setup()
    samples = data.samples("val")
    assert samples.distractors.shape == (len(samples), 0)
    with pytest.raises(ValueError, match="num_distractors: got 64, 8, 0 and -1, expected at least"):
        WordKnowledgeGraphs(num_distractors=-1)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_training_reports_ranks_and_perplexity(tmp_path: Path, weight: float) -> None:
    torch.manual_seed(0)
    data = animals(tmp_path)
    data.setup()
    network = models.bert(data.vocab_size, dim=16, depth=1, num_heads=2, num_token_types=3)
    task = MaskedNodeModeling(network, KNOWLEDGE, distractor_weight=weight, hits=3)
    run = trainer(max_epochs=2)
    run.fit(task, data)
    (metrics,) = run.test(task, data, verbose=False)
    assert set(metrics) == {"test/loss", "test/hits@3", "test/mrr", "test/perplexity"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert 1 < metrics["test/perplexity"] < 3 * 262


def test_vectors_of_entities_start_as_the_mean_of_their_names() -> None:
    network = models.bert(7, dim=6, depth=1, num_heads=2)
    vectors = network.embedding.features.weight
    before = vectors.detach().clone()
    names = [torch.tensor([1, 3]), torch.tensor([], dtype=torch.int64), torch.tensor([0])]
    start_with_names(network, names, first=4)
    torch.testing.assert_close(vectors[4], (before[1] + before[3]) / 2)
    assert torch.equal(vectors[[0, 1, 2, 3, 5]], before[[0, 1, 2, 3, 5]])
    assert torch.equal(vectors[6], before[0])


def test_a_run_starts_with_names(tmp_path: Path) -> None:
    data = animals(tmp_path)
    data.setup()
    network = models.bert(data.vocab_size, dim=16, depth=1, num_heads=2, num_token_types=3)
    task = MaskedNodeModeling(network, KNOWLEDGE, names=True, lr=0.0, weight_decay=0.0)
    vectors = network.embedding.features.weight
    before = vectors.detach().clone()
    trainer(max_epochs=1).fit(task, data)
    tokens = data.need_tokenizer()
    graph, _ = data.loaded()
    name = tokens.encode(graph.names[2][0])
    torch.testing.assert_close(vectors[tokens.vocab_size + 2], before[name].mean(0))


@pytest.mark.parametrize("pattern", [KNOWLEDGE, Complete()])
def test_facts_of_words_are_read_with_their_edges_alone(tmp_path: Path, pattern: Pattern) -> None:
    torch.manual_seed(0)
    data = animals(tmp_path, fact_names=2)
    data.setup()
    network = models.bert(data.vocab_size, dim=16, depth=2, num_heads=2, num_token_types=4).eval()
    trainer(max_epochs=1).fit(MaskedNodeModeling(network, pattern), data)
    network.eval()
    samples = data.samples("train")
    number = int(np.argmax(samples.num_edges))
    batch = samples[torch.tensor([number])]
    other = batch.clone()
    last, sentence = len(batch.x) - 1, slice(0, int(samples.sentences[number]))
    assert batch.token_types[last] == 3
    other.x[last] = (other.x[last] + 1) % 256
    with torch.no_grad():
        for edges, is_equal in ((Documents(), True), (pattern, False)):
            outputs = [network(b, edges)[sentence] for b in (batch, other)]
            assert torch.equal(*outputs) == is_equal


def test_names_need_data_with_entities(tmp_path: Path) -> None:
    data = animals(tmp_path)
    data.setup()
    network = models.bert(data.vocab_size, dim=16, depth=1, num_heads=2, num_token_types=3)
    task = MaskedNodeModeling(network, KNOWLEDGE, names=True)
    with pytest.raises(ValueError, match="names: got data of NoneType"):
        trainer(max_epochs=1).fit(task, train_dataloaders=data.batches("train"))


def test_knowledge_edges_change_the_answer_and_their_absence_hides_facts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = animals(tmp_path)
    data.setup()
    network = models.bert(data.vocab_size, dim=16, depth=2, num_heads=2, num_token_types=3).eval()
    samples = data.samples("train")
    number = int(np.argmax(samples.num_edges))
    batch = samples[torch.tensor([number])]
    other = batch.clone()
    fact = int(samples.sentences[number]) + 1  # the entity of the first fact
    first = data.need_tokenizer().vocab_size
    other.x[fact] = first + (other.x[fact] - first + 1) % 7
    sentence = slice(0, int(samples.sentences[number]))
    with torch.no_grad():
        for pattern, is_equal in ((Documents(), True), (KNOWLEDGE, False)):
            outputs = [network(b, pattern)[sentence] for b in (batch, other)]
            assert torch.equal(*outputs) == is_equal


@pytest.mark.parametrize(
    "options",
    [
        {"mask_rate": 1.0},
        {"word_mask_rate": 1.0},
        {"distractor_weight": -1.0},
        {"margin": 0.0},
        {"hits": 0},
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*got"):
        MaskedNodeModeling(torch.nn.Identity(), **options)
