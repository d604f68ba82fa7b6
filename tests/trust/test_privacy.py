"""Membership inference against scikit-learn; memorised text of a model that knows one passage."""

from __future__ import annotations

import pytest
import torch
from helpers.trust import given_run, random_split
from sklearn.metrics import roc_auc_score

from graphformer.trust.privacy import label_robustness, membership_inference, memorized_tokens
from graphformer.trust.sections import privacy_section


def test_the_area_is_that_of_sklearn():
    generator = torch.Generator().manual_seed(0)
    members, others = (torch.randn(n, generator=generator) for n in (101, 53))
    members -= 0.7
    expected = roc_auc_score([1] * 101 + [0] * 53, (-torch.cat([members, others])).numpy())
    assert membership_inference(members, others).auc == pytest.approx(expected, abs=1e-6)


def test_separated_losses_reveal_all_members_and_equal_ones_none():
    found = membership_inference(torch.zeros(7), torch.ones(11))
    assert found == (1.0, 1.0)
    assert membership_inference(torch.ones(7), torch.ones(11)).auc == pytest.approx(0.5)
    with pytest.raises(ValueError, match="got 0 and 3 losses"):
        membership_inference(torch.ones(0), torch.ones(3))


class KnowsOnePassage:
    """Continues every prompt with the numbers after its last one, up to 9."""

    def generate(self, prompts, *, max_new_tokens, temperature):
        assert temperature == 0.0
        return [[*p, *((p[-1] + 1 + i) % 10 for i in range(max_new_tokens))] for p in prompts]


def test_right_tokens_are_counted_up_to_the_first_wrong_one():
    passages = [[0, 1, 2, 3, 4], [0, 1, 2, 9, 4], [5, 5, 5, 5, 5]]
    counts = memorized_tokens(KnowsOnePassage(), passages, prefix_length=2)
    assert counts.tolist() == [3, 1, 0]


def test_an_overfitted_model_is_found():
    logits, y = random_split(97, 3, 0)
    train = 9 * torch.nn.functional.one_hot(y, 3).float()
    metrics = privacy_section(given_run({"train": (train, y), "test": (logits, y)})).metrics
    assert metrics["AUC of membership inference"] > 0.95


def test_labels_that_survive_noise_are_those_far_from_the_border():
    x = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.1, 0.0], [9.0, 0.0]])
    y = torch.tensor([0, 1, 0, 1])  # two far right, one near the border, one wrong
    run = given_run({"train": (x, y), "test": (x, y)})
    share = label_robustness(run.task, run.batches("test"), "test", scale=0.1, copies=64)
    assert share[:2].tolist() == [1, 1]
    assert 0.3 < share[2] < 0.8
    assert share[3] == 0
    again = label_robustness(run.task, run.batches("test"), "test", scale=0.1, copies=64)
    assert torch.equal(share, again)
