"""`PolicyState`: what a run of `PolicyOptimization` has besides weights, for exact resume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from graphformer.tasks.post_training.rollouts import Rollouts


@dataclass
class PolicyState:
    """Sampled answers that are in use, and numbers that change when answers are sampled.

    Attributes:
        kl_weight: beta.
        baseline: moving average of rewards; None before the first answers.
        count: number of samplings.
        step: number of updates since the last sampling.
        is_padding: whether the answers in use are those to padding, which have no weight.
        rollouts: the minibatches of answers in use.
    """

    kl_weight: float
    baseline: float | None = None
    count: int = 0
    step: int = 0
    is_padding: bool = False
    rollouts: list[Rollouts] = field(default_factory=list)

    def next_minibatch(self, *, seed: int, epochs: int) -> Rollouts:
        """Return the minibatch of this step, and drop all after the last step.

        The order depends on the seed, the number of samplings and the epoch only.

        Args:
            seed: of the order.
            epochs: number of times that a minibatch is used.
        """
        number = len(self.rollouts)
        generator = np.random.default_rng((seed, self.count, self.step // number))
        chosen = self.rollouts[int(generator.permutation(number)[self.step % number])]
        self.step += 1
        if self.step == epochs * number:
            self.rollouts = []
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain types and tensors, for a checkpoint."""
        stored = [one.state_dict() for one in self.rollouts]
        return {**vars(self), "rollouts": stored}

    @classmethod
    def of_checkpoint(
        cls, states: list[dict[str, Any]], rank: int, size: int, device: torch.device
    ) -> PolicyState:
        """Return the state of a rank of a run that resumes.

        Answers of another number of ranks are left out; the run then samples new ones.

        Args:
            states: `state_dict` of each rank of the run that was saved.
            rank, size: of this process among those of the run that resumes.
            device: of the answers.
        """
        state = dict(states[rank if len(states) == size else 0])
        stored = state.pop("rollouts") if len(states) == size else state.pop("rollouts")[:0]
        return cls(**state, rollouts=[Rollouts.from_state_dict(one, device) for one in stored])
