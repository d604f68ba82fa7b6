from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.tasks import trainer
from helpers.wordnet import write_animals
from torch import nn

from graphformer import models
from graphformer.batch_type import Batch
from graphformer.data import EntityDescriptions, pack_tokens
from graphformer.patterns import Complete
from graphformer.tasks import KnowledgeEmbedding
from graphformer.tasks.text.knowledge.knowledge_embedding import select_samples, transe_loss


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_transe_loss_by_hand() -> None:
    distances = torch.tensor([[0.5, 3.0, 1.5, 4.0], [2.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    batch = Batch(
        triples=torch.tensor([[3, 0, 0], [1, 1, 2]]),
        known_index=torch.tensor([[0, 1, 1, 1], [2, 0, 1, 3]]),  # the second has no wrong tail
    )
    first = log_sigmoid(2 - 0.5) + (log_sigmoid(3 - 2) + log_sigmoid(4 - 2)) / 2
    second = log_sigmoid(2 - 1)
    loss = transe_loss(distances, batch, margin=2.0)
    assert loss.item() == pytest.approx(-(first + second) / 2)


def network(vocab_size: int = 13) -> models.Model:
    torch.manual_seed(0)
    return models.bert(vocab_size, dim=16, depth=1, num_heads=2, num_token_types=0).eval()


@pytest.mark.parametrize("norm", [1, 2])
def test_distances_are_those_of_the_first_nodes(norm: int) -> None:
    model = network()
    task = KnowledgeEmbedding(model, num_relations=3, norm=norm)
    batch = pack_tokens([[1, 2, 3], [1, 5], [1, 7, 8, 9]])
    batch.triples = torch.tensor([[2, 1, 0], [0, 2, 1]])
    with torch.no_grad():
        nodes = model.transformer(model.embedding(batch), Complete()(batch), batch.pos)
        first = nodes[[0, 3, 5]]
        expected = [
            [(first[h] + task.relations.weight[r] - first[t]).norm(p=norm) for t in range(3)]
            for h, r in ((2, 1), (0, 2))
        ]
        torch.testing.assert_close(task.predict_step(batch, 0), torch.tensor(expected))


def test_select_samples() -> None:
    batch = select_samples(pack_tokens([[1, 2, 3], [4], [], [5, 6]]), torch.tensor([0, 2, 3]))
    assert batch.x.tolist() == [1, 2, 3, 5, 6]
    assert batch.pos.tolist() == [0, 1, 2, 0, 1]
    assert batch.lengths == (3, 0, 2)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_training_reports_ranks_and_perplexity(tmp_path: Path, weight: float) -> None:
    data = EntityDescriptions(
        (str(write_animals(tmp_path)),),
        subtree="animal",
        vocabulary="bytes",
        batch_size=3,
        val_fraction=0.15,
        test_fraction=0.15,
    )
    data.setup()
    task = KnowledgeEmbedding(network(data.vocab_size), num_relations=3, knowledge_weight=weight)
    before = task.relations.weight.detach().clone()
    run = trainer()
    run.fit(task, data)
    assert torch.equal(task.relations.weight, before) == (weight == 0)
    (metrics,) = run.test(task, data, verbose=False)
    assert set(metrics) == {"test/loss", "test/hits@10", "test/mrr", "test/perplexity"}
    assert metrics["test/hits@10"] == 1.0  # of seven entities
    assert all(math.isfinite(value) for value in metrics.values())


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(TypeError, match="network: got Linear, expected a Model"):
        KnowledgeEmbedding(nn.Linear(2, 2), num_relations=3)
    with pytest.raises(ValueError, match="num_relations, knowledge_weight, hits: got 0, 1.0 and"):
        KnowledgeEmbedding(network(), num_relations=0)
    with pytest.raises(ValueError, match="mask_rate: got 1.0, expected a share"):
        KnowledgeEmbedding(network(), num_relations=3, mask_rate=1.0)
