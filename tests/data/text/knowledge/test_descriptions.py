from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.wordnet import write_animals

from graphformer.data import EntityDescriptions
from graphformer.data.text.knowledge.descriptions import DescribedFacts

ROWS = [np.array([9, entity]) for entity in range(5)]
FACTS = np.array([[3, 0, 1], [3, 0, 4], [1, 1, 3]])
KNOWN = {(3, 0): np.array([1, 2, 4]), (1, 1): np.array([3])}


def test_a_batch_has_each_entity_of_its_facts_once() -> None:
    batch = DescribedFacts(ROWS, FACTS, KNOWN, with_all=False)[torch.tensor([0, 1, 2])]
    assert batch.x.tolist() == [9, 1, 9, 3, 9, 4]
    assert batch.triples.tolist() == [[1, 0, 0], [1, 0, 2], [0, 1, 1]]
    assert batch.known_index.tolist() == [[0, 1], [2, 0]]  # entity 2 is in no fact of the batch


def test_evaluation_compares_all_entities() -> None:
    batch = DescribedFacts(ROWS, FACTS, KNOWN, with_all=True)[torch.tensor([2, 0])]
    assert batch.x.reshape(-1, 2)[:, 1].tolist() == [0, 1, 2, 3, 4]
    assert batch.triples.tolist() == [[1, 1, 3], [3, 0, 1]]
    assert batch.known_index.tolist() == [[1, 1], [2, 4]]


def test_a_single_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"paths: got 'data\.noun', expected a list"):
        EntityDescriptions("data.noun")


def test_descriptions_are_names_and_glosses(tmp_path: Path) -> None:
    module = EntityDescriptions(
        (str(write_animals(tmp_path)),),
        subtree="animal",
        vocabulary="bytes",
        batch_size=3,
        val_fraction=0.15,
        test_fraction=0.15,
    )
    module.setup()
    batch = next(iter(module.val_dataloader()))
    assert len(batch.lengths) == 7
    dog = batch.x.split(list(batch.lengths))[1]
    assert dog[0] == module.need_tokenizer().need("cls")
    text = 'dog, domestic dog: an animal that barks; "the dog barked"'
    assert module.decode(dog[1:]) == text
    assert next(iter(module.train_dataloader())).triples.shape == (3, 3)
