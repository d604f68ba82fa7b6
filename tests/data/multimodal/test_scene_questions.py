"""`SceneQuestions`: batches of scenes and questions, whose answers are balanced in each split."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from graphformer.batch_type import IGNORE_INDEX
from graphformer.data import SceneQuestions
from graphformer.data.multimodal.questions import QUESTION_TYPES

SIZES = {"num_samples": 6720, "val_size": 3360, "test_size": 960, "batch_size": 7}


@pytest.fixture(scope="module")
def data() -> SceneQuestions:
    made = SceneQuestions("digits", patch_size=16, **SIZES)
    made.setup()
    return made


def test_answers_are_balanced_for_each_question_of_each_split(data: SceneQuestions) -> None:
    repeats = {"train": (56, 42, 42, 6), "val": (28, 21, 21, 3), "test": (8, 6, 6, 3)}
    for split, by_type in repeats.items():
        questions = data.splits[split][1]
        for name, count in zip(QUESTION_TYPES, by_type, strict=True):
            pairs = Counter((q.text, q.answer) for q in questions if q.type == name)
            assert set(pairs.values()) == {count}
            assert pairs.total() * 4 == len(questions)


def test_a_batch_has_patches_then_a_question_labelled_at_its_end(data: SceneQuestions) -> None:
    index = torch.tensor([0, 5, 3])
    batch = data.batches("val").dataset[index]
    first, last = 0, 0
    for size, number in zip(batch.lengths, index.tolist(), strict=True):
        question = data.splits["val"][1][number]
        last = first + size - 1
        assert batch.x[first : first + 9].tolist() == [data.image_token_id] * 9
        assert int(batch.x[first + 9]) == data.need_tokenizer().need("bos")
        assert data.decode(batch.x[first + 10 : last + 1]).replace("?", " ?") == question.text
        assert data.decode([int(batch.y[last])]) == question.answer
        first = last + 1
    assert int((batch.y != IGNORE_INDEX).sum()) == 3
    assert batch.question_type.tolist() == [0, 1, 3]
    assert batch.prefix_lengths == (9, 9, 9)
    assert batch.shapes == ((3, 3),) * 3
    shown = data.scaled_samples("val", data.splits["val"][0], torch.zeros(3360))[index]
    assert torch.equal(batch.source, shown.x)


def test_words_are_tokens(data: SceneQuestions) -> None:
    words = {word for q in data.splits["test"][1] for word in f"{q.text} {q.answer}".split()}
    assert all(len(data.encode(word)) == 1 for word in words)


def test_images_may_be_sources_only(data: SceneQuestions) -> None:
    other = SceneQuestions("digits", patch_size=16, image_tokens=False, **SIZES)
    other.splits, other.tokenizer = data.splits, data.tokenizer
    other.measure(data.splits["train"][0])
    batch, joint = (made.batches("test").dataset[torch.arange(5)] for made in (other, data))
    assert torch.equal(batch.x, joint.x[joint.node_type == 1])
    assert torch.equal(batch.y, joint.y[joint.node_type == 1])
    assert torch.equal(batch.source, joint.source)
    assert batch.source_lengths == (9,) * 5
    assert "node_type" not in batch


def test_sizes_that_are_not_balanced_are_refused() -> None:
    message = "num_samples: got 5000, expected a multiple of 3360, .* equally frequent; use 3360"
    with pytest.raises(ValueError, match=message):
        SceneQuestions(num_samples=5000)
    with pytest.raises(ValueError, match="test_size: got 0, expected a multiple of 960.*use 960"):
        SceneQuestions(test_size=0)


@pytest.mark.parametrize("transform", ["flip", "mixup:0.2"])
def test_transforms_that_change_the_answer_are_refused(transform: str) -> None:
    with pytest.raises(ValueError, match="augment: got .* keep left and right"):
        SceneQuestions(augment=[transform])
