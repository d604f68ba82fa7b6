"""Settings of policy methods: what depends on the method, and one sentence for a wrong value."""

from __future__ import annotations

import pytest
from helpers.rollouts import policy_settings


def test_what_depends_on_the_method() -> None:
    rloo, grpo, ppo = (policy_settings(method=name) for name in ("rloo", "grpo", "ppo"))
    assert (rloo.place, grpo.place, ppo.place) == ("sample", "loss", "token")
    assert (rloo.ratio_clip, grpo.ratio_clip) == (None, 0.2)
    assert (rloo.has_white_advantages, ppo.has_white_advantages) == (False, True)
    assert not policy_settings(method="ppo", whiten=False).has_white_advantages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "trpo"}, "method: got 'trpo', expected one of reinforce, rloo"),
        ({"kl_estimator": "k4"}, "kl_estimator: got 'k4', expected one of k1, k2, k3"),
        ({"kl_place": "step"}, "kl_place: got 'step', expected None or one of sample, token"),
        ({"minibatches": 0}, "minibatches: got 0, expected 1 or more"),
        ({"epochs": 0}, "epochs: got 0, expected 1 or more"),
        ({"max_new_tokens": 0}, "max_new_tokens: got 0, expected 1 or more"),
        ({"temperature": 0.0}, "temperature: got 0.0, expected a number above 0"),
        ({"temperature": float("nan")}, "temperature: got nan, expected a finite number"),
        ({"kl_target": 0.0}, "kl_target: got 0.0, expected None or a number above 0"),
        ({"kl_weight": -0.1}, "kl_weight: got -0.1, expected 0 or more"),
        ({"kl_stop": -1.0}, "kl_stop: got -1.0, expected None, 0 or more"),
        ({"kl_horizon": 0.0}, "kl_horizon: got 0.0, expected a number above 0"),
        ({"clip": 0.0}, "clip: got 0.0, expected a number above 0"),
        ({"lam": 1.1}, "lam: got 1.1, expected a number from 0 to 1"),
        ({"method": "grpo", "kl_estimator": "k1"}, "kl_estimator: got 'k1' for a KL in the loss"),
        ({"method": "grpo", "group_size": 1}, "group_size: got 1, expected 2 or more for 'grpo'"),
    ],
)
def test_wrong_values(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        policy_settings(**options)
