from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.wordnet import write_animals

from graphformer.batch_type import Batch
from graphformer.data import WordKnowledgeGraphs
from graphformer.data.ragged import Ragged
from graphformer.data.text.knowledge.word_graphs import WordGraphSamples
from graphformer.patterns import Documents, Edges


def data(tmp_path: Path, **options: int) -> WordKnowledgeGraphs:
    module = WordKnowledgeGraphs(
        (str(write_animals(tmp_path)),),
        subtree="animal",
        vocabulary="characters",
        val_fraction=0.15,
        test_fraction=0.15,
        **{"num_distractors": 2, **options},
    )
    module.setup()
    return module


def small_batch() -> Batch:
    """Two samples; ids of words are below 10, of entities below 15, of relations below 18."""
    rows = [
        np.array([0, 11, 3, 15, 12, 16, 13, 17, 14]),  # two facts
        np.array([0, 10, 5, 6, 17, 11]),  # no fact
    ]
    samples = WordGraphSamples(
        Ragged(rows, [2, 1]),
        np.array([5, 6]),
        (0, 10, 15, 18),
        [np.array([4]), np.array([], np.int64)],
        np.array([[0], [3]]),
    )
    return samples[torch.tensor([0, 1])]


def test_words_see_the_sentence_and_facts_their_entity() -> None:
    batch = small_batch()
    # <cls>, entity 1, a word, relation 0, entity 2; relation 1, entity 3; relation 2, entity 4
    words = np.ones((5, 5), bool)
    expected = np.zeros((15, 15), bool)
    expected[:5, :5] = words
    expected[9:, 9:] = True
    for i, j in [(1, 5), (5, 6), (1, 7), (7, 8)]:
        expected[i, j] = expected[j, i] = True
    expected |= np.eye(15, dtype=bool)
    pattern = Documents() | Edges(undirected=True)
    assert np.array_equal(pattern(batch).to_mask().numpy(), expected)
    expected[5:9, :5] = expected[:5, 5:9] = False
    expected[5:9, 5:9] = np.eye(4, dtype=bool)
    assert np.array_equal(Documents()(batch).to_mask().numpy(), expected)


def test_fields_of_a_batch() -> None:
    batch = small_batch()
    assert batch.token_types.tolist() == [0, 1, 0, 2, 1, 2, 1, 2, 1, 0, 1, 0, 0, 2, 1]
    assert batch.pos.tolist() == [0, 1, 2, 3, 4, 2, 3, 2, 3, 0, 1, 2, 3, 4, 5]
    assert batch.target_index.tolist() == [4, 14]
    assert batch.x[batch.target_index].tolist() == [10 + 2, 10 + 1]
    assert batch.y.tolist() == [2, 1]
    assert batch.known_index.tolist() == [[0], [4]]
    assert batch.distractors.tolist() == [[0], [3]]
    assert tuple(batch.documents) == (5, 1, 1, 1, 1, 6)


def test_facts_of_words_by_hand() -> None:
    rows = [
        np.array([0, 11, 3, 15, 12, 16, 4, 5, 17, 6]),  # facts of two words and of one
        np.array([0, 10, 17, 11, 15, 16, 7]),  # facts of no word and of one
    ]
    samples = WordGraphSamples(
        Ragged(rows, [2, 1]),
        np.array([5, 4]),
        (0, 10, 15, 18),
        [np.array([4]), np.array([], np.int64)],
        np.array([[0], [3]]),
    )
    batch = samples[torch.tensor([0, 1])]
    assert batch.token_types.tolist() == [0, 1, 0, 2, 1, 2, 3, 3, 2, 3, 0, 1, 2, 1, 2, 2, 3]
    assert batch.pos.tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 0, 1, 2, 3, 2, 2, 3]
    assert batch.edge_index.tolist() == [
        [1, 1, 1, 1, 1, 11, 11, 11],
        [5, 6, 7, 8, 9, 14, 15, 16],
    ]
    assert samples.num_edges is not None
    assert samples.num_edges.tolist() == [5, 3]
    assert batch.documents == (5, 3, 2, 4, 1, 2)
    assert batch.target_index.tolist() == [4, 13]


def test_facts_are_names_of_their_entities(tmp_path: Path) -> None:
    entities, one, two = (data(tmp_path, fact_names=number) for number in (0, 1, 2))
    graph, _ = one.loaded()
    tokenizer = one.need_tokenizer()
    first = tokenizer.vocab_size
    long = 0
    for split in ("train", "val", "test"):
        samples = [module.samples(split) for module in (entities, one, two)]
        for number in range(len(samples[0])):
            rows = [s[torch.tensor([number])] for s in samples]
            size = int(samples[0].sentences[number])
            inside = rows[0].x[size:].reshape(-1, 2).tolist()
            for count, row in ((1, rows[1]), (2, rows[2])):
                texts = [", ".join(graph.names[e - first][:count]) for _, e in inside]
                words = [tokenizer.encode(text).tolist() for text in texts]
                facts = zip(inside, words, strict=True)
                assert row.x[size:].tolist() == [i for (r, _), name in facts for i in (r, *name)]
                assert torch.equal(row.x[:size], rows[0].x[:size])
                assert row.documents == (size, *(1 + len(name) for name in words))
                long += "dog, domestic dog" in texts
    assert long > 0


def test_no_sample_contains_its_answer_or_its_inverse(tmp_path: Path) -> None:
    module = data(tmp_path)
    graph, facts = module.loaded()
    words = module.need_tokenizer().vocab_size
    for split in ("train", "val", "test"):
        samples = module.samples(split)
        for number, (head, relation, tail) in enumerate(facts.queries[split].tolist()):
            row = samples[torch.tensor([number])]
            size = samples.sentences[number]
            assert row.x[1] == words + head
            ends = [words + len(graph.names) + relation, words + tail]
            assert row.x[size - 2 : size].tolist() == ends
            inside = row.x[size:].reshape(-1, 2).tolist()
            shown = {(r - words - len(graph.names), e - words) for r, e in inside}
            assert all(e != tail for _, e in shown)
            visible = {(r, t) for h, r, t in facts.visible.tolist() if h == head and t != tail}
            assert shown == visible
            true = {t for h, r, t in graph.facts.tolist() if (h, r) == (head, relation)}
            if split != "train":
                assert set(row.known_index[1].tolist()) == true - {tail}
            assert tail not in row.distractors[0].tolist()


def test_descriptions_of_validation_and_test_are_not_trained_on(tmp_path: Path) -> None:
    module = data(tmp_path)
    queries = module.loaded()[1].queries
    assert not set(module.training_entities()) & {*queries["val"][:, 0], *queries["test"][:, 0]}


def test_sizes_and_limits(tmp_path: Path) -> None:
    module = data(tmp_path, max_facts=1, max_length=5)
    assert module.num_relations == 3
    assert module.vocab_size == module.need_tokenizer().vocab_size + 7 + 3
    samples = module.samples("train")
    assert samples.sentences.max() == 5 + 4
    assert (samples.lengths - samples.sentences).max() == 2
    batch = next(iter(module.train_dataloader()))
    assert batch.x.max() < module.vocab_size


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fact_names, num_distractors: got 64, 8, -1 and 2"):
        data(tmp_path, fact_names=-1)
    with pytest.raises(ValueError, match="num_distractors: got 7, expected at most"):
        data(tmp_path, num_distractors=7).samples("train")


def test_hidden_heads_leave_all_else_as_it_is(tmp_path: Path) -> None:
    shown, hidden = data(tmp_path), data(tmp_path, hide_heads=True)
    index = torch.arange(len(shown.samples("train")))
    a, b = shown.samples("train")[index], hidden.samples("train")[index]
    sizes = torch.tensor(a.lengths)
    heads = sizes.cumsum(0) - sizes + 1
    assert (b.x[heads] == hidden.need_tokenizer().need("mask")).all()
    rest = torch.ones(len(a.x), dtype=torch.bool)
    rest[heads] = False
    assert torch.equal(a.x[rest], b.x[rest])
    for name in ("token_types", "pos", "edge_index", "y", "distractors"):
        assert torch.equal(a[name], b[name])
    assert a.documents == b.documents
