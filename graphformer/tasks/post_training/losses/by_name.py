"""`PreferenceLoss`: a loss of `losses.preference` by its name, with its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from graphformer.tasks.post_training.losses import preference

LossName: TypeAlias = Literal[
    "sigmoid", "hinge", "ipo", "length_normalized", "simpo", "orpo", "kto"
]
TARGET_MARGIN = 0.5
"""The default of gamma, a setting of "simpo" alone."""


@dataclass(frozen=True)
class PreferenceLoss:
    """The loss of pairs of answers from their log-probabilities.

    Args:
        name: see `DirectPreference`, as for the other settings.
        beta: above 0.
        label_smoothing: from 0 to 0.5; of "sigmoid" and "length_normalized".
        target_margin: of "simpo".

    Raises:
        ValueError: when a setting is out of its range, or not one of this loss.
    """

    name: LossName
    beta: float
    label_smoothing: float = 0.0
    target_margin: float = TARGET_MARGIN

    def __post_init__(self) -> None:
        if self.name not in get_args(LossName):
            raise ValueError(
                f"loss: got {self.name!r}, expected one of {', '.join(get_args(LossName))}"
            )
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta: got {self.beta}, expected a number above 0")
        if not 0 <= self.label_smoothing <= 0.5:
            raise ValueError(
                f"label_smoothing: got {self.label_smoothing}, expected a share from 0 to 0.5"
            )
        if self.label_smoothing and self.name not in ("sigmoid", "length_normalized"):
            raise ValueError(
                f"label_smoothing: got {self.label_smoothing} for loss {self.name!r}, expected 0; "
                "it is a setting of 'sigmoid' and 'length_normalized'"
            )
        if self.target_margin != TARGET_MARGIN and self.name != "simpo":
            raise ValueError(
                f"target_margin: got {self.target_margin} for loss {self.name!r}, expected none; "
                "it is a setting of 'simpo'"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares the policy with a reference."""
        return self.name not in ("simpo", "orpo")

    @property
    def is_per_token(self) -> bool:
        """Whether the loss is of means over the tokens of an answer, not of sums."""
        return self.name in ("ipo", "length_normalized", "simpo", "orpo")

    def __call__(self, policy: Tensor, ratios: Tensor, kto_kl: Tensor | None = None) -> Tensor:
        """Return the loss of each pair, [P]; for "kto" of each answer, [2 P].

        Args:
            policy: log pi of chosen and rejected answers, [P, 2].
            ratios: log pi - log pi0, [P, 2].
            kto_kl: reference point of "kto", [].
        """
        margin = ratios[:, 0] - ratios[:, 1]
        if self.name == "hinge":
            return preference.hinge_loss(margin, beta=self.beta)
        if self.name == "ipo":
            return preference.ipo_loss(margin, beta=self.beta)
        if self.name == "simpo":
            gamma = self.target_margin
            return preference.simpo_loss(*policy.T, beta=self.beta, target_margin=gamma)
        if self.name == "orpo":
            return preference.orpo_loss(*policy.T, beta=self.beta)
        if self.name == "kto":
            assert kto_kl is not None
            desirable = torch.tensor([True, False], device=ratios.device).repeat(len(ratios))
            return preference.kto_loss(ratios.flatten(), desirable, kto_kl, beta=self.beta)
        return preference.dpo_loss(margin, beta=self.beta, label_smoothing=self.label_smoothing)
