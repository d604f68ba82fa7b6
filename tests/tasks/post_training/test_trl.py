"""Losses of the first six optimiser steps beside TRL: one model, one batch, float64, no dropout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.peers import OPTIMISER, STEPS, llama, our_losses, ours, random_ids, their_losses
from helpers.preferences import pair_batch
from helpers.rollouts import Prompts

from graphformer.tasks import (
    DirectPreference,
    PolicyOptimization,
    RewardModeling,
    SupervisedFineTuning,
)
from graphformer.tasks.post_training import policy_optimization
from graphformer.tasks.post_training.losses.preference import orpo_loss, simpo_loss
from graphformer.tasks.post_training.rewards import Completion

pytestmark = pytest.mark.slow

LENGTHS = [(3, 5), (3, 2), (7, 11), (7, 4), (1, 3), (1, 13)]
ROWS = [  # prompt and answer; chosen and rejected in turn, of one prompt each
    (random_ids(prompt, seed=prompt), random_ids(answer, seed=100 + answer))
    for prompt, answer in LENGTHS
]


@pytest.fixture(scope="module")
def trl() -> Any:
    """The library, or the test is skipped."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("trl", reason="needs the extra `trl`")


def assert_equal(found: Sequence[float], expected: Sequence[float]) -> None:
    assert len(found) == len(expected) == STEPS
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert abs(found[0] - found[-1]) > 1e-3  # the steps change the loss


def test_sft(trl: Any, tmp_path: Path) -> None:
    model = llama()
    task = SupervisedFineTuning(ours(model), **OPTIMISER)
    rows = [{"input_ids": p + a, "labels": [-100] * len(p) + a} for p, a in ROWS]
    expected = their_losses(trl.SFTTrainer, trl.SFTConfig, model, rows, tmp_path)
    assert_equal(our_losses(task, pair_batch(ROWS)), expected)


PAIR_ROWS = [
    {"prompt_ids": ROWS[i][0], "chosen_ids": ROWS[i][1], "rejected_ids": ROWS[i + 1][1]}
    for i in range(0, len(ROWS), 2)
]


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        ("sigmoid", "sigmoid"),
        ("hinge", "hinge"),
        ("ipo", "ipo"),
        ("length_normalized", "sigmoid_norm"),
    ],
)
def test_direct_preference(trl: Any, tmp_path: Path, loss: Any, theirs: str) -> None:
    model = llama()
    task = DirectPreference(ours(model), loss=loss, beta=0.3, **OPTIMISER)
    settings = {"beta": 0.3, "loss_type": [theirs], "max_length": None}
    settings["trainer_options"] = {"ref_model": deepcopy(model)}
    expected = their_losses(trl.DPOTrainer, trl.DPOConfig, model, PAIR_ROWS, tmp_path, **settings)
    assert_equal(our_losses(task, pair_batch(ROWS)), expected)


def test_kto(trl: Any, tmp_path: Path) -> None:
    model = llama()
    task = DirectPreference(ours(model), loss="kto", beta=0.3, **OPTIMISER)
    answers = [answer for _, answer in ROWS]
    rows = [
        {"prompt_ids": p, "completion_ids": a, "KL_completion_ids": other, "label": i % 2 == 0}
        for i, ((p, a), other) in enumerate(zip(ROWS, answers[2:] + answers[:2], strict=True))
    ]
    settings = {"beta": 0.3, "max_length": None}
    settings["trainer_options"] = {"ref_model": deepcopy(model)}
    expected = their_losses(trl.KTOTrainer, trl.KTOConfig, model, rows, tmp_path, **settings)
    assert_equal(our_losses(task, pair_batch(ROWS)), expected)


def test_rewards(trl: Any, tmp_path: Path) -> None:
    model = llama("LlamaForSequenceClassification", num_labels=1)
    task = RewardModeling(ours(model), centring=0.01, **OPTIMISER)
    rows = [
        {"chosen_ids": r["prompt_ids"] + r["chosen_ids"], "margin": 0.25 * i,
         "rejected_ids": r["prompt_ids"] + r["rejected_ids"]}
        for i, r in enumerate(PAIR_ROWS)
    ]  # fmt: skip
    batch = pair_batch(ROWS)
    batch.margin = torch.tensor([row["margin"] for row in rows])
    settings = {"center_rewards_coefficient": 0.01, "max_length": None}
    expected = their_losses(trl.RewardTrainer, trl.RewardConfig, model, rows, tmp_path, **settings)
    assert_equal(our_losses(task, batch), expected)


def test_losses_without_a_reference(trl: Any) -> None:
    cpo = pytest.importorskip("trl.experimental.cpo")
    orpo = pytest.importorskip("trl.experimental.orpo")
    chosen, rejected = -torch.rand(2, 7, dtype=torch.float64)
    settings = {"beta": 2.0, "accelerator": SimpleNamespace(device="cpu")}
    simpo = SimpleNamespace(
        **settings, alpha=0.0, loss_type="simpo", simpo_gamma=0.5, label_smoothing=0.0
    )
    expected = cpo.CPOTrainer.cpo_loss(simpo, chosen, rejected)[0]
    found = simpo_loss(chosen, rejected, beta=2.0, target_margin=0.5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # Only the odds ratio: TRL's term of instruction tuning includes the prompt.
    expected = orpo.ORPOTrainer.odds_ratio_loss(SimpleNamespace(**settings), chosen, rejected)[0]
    found = orpo_loss(chosen, rejected, beta=2.0)
    torch.testing.assert_close(found, (-chosen - expected.double()), atol=1e-5, rtol=1e-5)


PROMPTS = ["de", "a", "fghijkl"]
GROUP = 4
ANSWERS = [  # GROUP to each prompt
    random_ids(length, seed=number) + [258] * (length < 9)  # the others lack the end token
    for number, length in enumerate([5, 2, 9, 3, 1, 9, 4, 4, 7, 3, 2, 8])
]


def vowels(ids: Sequence[int]) -> float:
    return sum(number in set(b"aeiou") for number in ids) + 0.1 * len(ids)


def policy_losses(
    trl_trainer: Any, trl_config: Any, tmp_path: Path, monkeypatch: Any, method: Any, scale: float,
    **settings: Any,
) -> tuple[list[float], list[float], Any, PolicyOptimization]:  # fmt: skip
    """Our losses and TRL's on fixed answers, and both trained policies."""
    llama().save_pretrained(tmp_path / "model")  # TRL reads its reference from there
    model = type(llama()).from_pretrained(tmp_path / "model", dtype=torch.float64)
    completions = [
        Completion(text, "", "", [*text.encode(), *answer], len(text), answer[-1] == 258)
        for text, answer in zip([p for p in PROMPTS for _ in range(GROUP)], ANSWERS, strict=True)
    ]
    monkeypatch.setattr(
        policy_optimization, "sample_completions", lambda *args, **options: completions
    )
    task = PolicyOptimization(
        ours(model),
        method=method,
        reward=lambda rows: [scale * vowels(row.ids[row.prompt_length :]) for row in rows],
        group_size=GROUP,
        max_new_tokens=11,
        temperature=0.7,
        kl_weight=0.05,
        epochs=settings.get("num_iterations", 1),
        **OPTIMISER,
    )

    def answer(prompts: list[str], trainer: Any) -> dict[str, Any]:
        rows = [PROMPTS.index(text) * GROUP + i % GROUP for i, text in enumerate(prompts)]
        return {
            "prompt_ids": [list(text.encode()) for text in prompts],
            "completion_ids": [ANSWERS[row] for row in rows],
            "logprobs": None,
        }

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [scale * vowels(ids) for ids in completion_ids]

    expected = their_losses(
        trl_trainer, trl_config, model, [{"prompt": text} for text in PROMPTS], tmp_path,
        per_device_train_batch_size=len(ANSWERS), num_generations=GROUP, temperature=0.7,
        max_completion_length=11, beta=0.05, model_init_kwargs={"dtype": "auto"}, **settings,
        trainer_options={"reward_funcs": [reward], "rollout_func": answer},
    )  # fmt: skip
    return our_losses(task, Prompts(len(PROMPTS))), expected, model, task


@pytest.mark.parametrize(
    ("method", "scale_rewards", "scale"),
    # The constants that are added to the standard deviation differ: large rewards hide them.
    [("grpo", "group", 1e4), ("dr_grpo", "none", 1.0)],
)
def test_grpo(
    trl: Any, tmp_path: Path, monkeypatch: Any, method: Any, scale_rewards: str, scale: float
) -> None:
    settings = {"loss_type": method, "scale_rewards": scale_rewards, "num_iterations": 2}
    settings["use_bias_correction_kl"] = False  # True multiplies the estimate by the ratio
    found, expected, _, _ = policy_losses(
        trl.GRPOTrainer, trl.GRPOConfig, tmp_path, monkeypatch, method, scale, **settings
    )
    assert_equal(found, expected)
