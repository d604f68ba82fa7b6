"""`PolicyOptimization`: REINFORCE, RLOO, GRPO, Dr. GRPO and PPO on sampled answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.distributed.mesh import data_parallel
from graphformer.models.generation import eval_mode
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.post_training.kl import Estimator
from graphformer.tasks.post_training.log_probs import entropy, log_probs
from graphformer.tasks.post_training.policy.collect import evaluate_answers, split_answers
from graphformer.tasks.post_training.policy.critic import Critic, policy_and_values
from graphformer.tasks.post_training.policy.methods import (
    mean_over_ranks,
    prepare_updates,
    reduce_losses,
    token_losses,
)
from graphformer.tasks.post_training.policy.metrics import answer_metrics, update_metrics
from graphformer.tasks.post_training.policy.settings import KLPlace, Method, PolicySettings
from graphformer.tasks.post_training.policy.state import PolicyState
from graphformer.tasks.post_training.reference import FrozenReference
from graphformer.tasks.post_training.reward_values import WeightedRewards
from graphformer.tasks.post_training.rewards import Completion, Reward
from graphformer.tasks.post_training.sampling import sample_completions


class PolicyOptimization(Task):
    """Policy gradients from rewards of sampled answers, with a KL penalty to the start.

    Every `epochs * minibatches` steps the prompts of a batch (`PromptFile`) get `group_size`
    answers each; the steps update the policy on these, each on one minibatch, and ignore other
    batches. Advantages and losses by method, where answers are summed or averaged over tokens:

    - "reinforce": r - b with a moving average b of rewards; sum.
    - "rloo": r minus the mean of the other answers to the prompt; sum.
    - "grpo": r normalised within the answers to the prompt, clipped ratio; mean of means.
    - "dr_grpo": r centred within them, clipped ratio; sum / `max_new_tokens`.
    - "ppo": generalised advantages of a critic, clipped ratio; mean over all tokens.

    Policy, old policy and reference are evaluated without dropout and at the temperature of
    sampling. Averages are those over all ranks, and the answers to a prompt do not depend on the
    rank. Metrics are the mean reward of greedy answers, and `loss`, which is minus that.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention; causal.
        reward: returns a number for each of a list of `Completion`s; or several such callables.
        reward_weights: of several rewards, by which these are summed; 1 by default.
        method: see above.
        group_size: number of answers to each prompt of a batch.
        minibatches: number of parts of the answers, one for each step; at most one for each prompt.
        epochs: number of times that an answer is used.
        max_new_tokens: maximum number of tokens of an answer.
        temperature: of sampling.
        clip: of the ratio to the old policy.
        kl_weight: beta, of log pi - log pi0.
        kl_place: subtract beta times its "sample" sum from the reward, or from the rewards of each
            "token"; or add beta times an estimate to the "loss". By default the loss for "grpo" and
            "dr_grpo", tokens for "ppo", else samples.
        kl_estimator: in the loss; "k3" as in GRPO, or "k2", whose gradient is that of the KL.
        kl_target: KL of an answer in nats to which beta adapts; None keeps beta.
        kl_horizon: number of rollouts over which beta adapts.
        kl_stop: mean KL of a token to the old policy above which new answers are sampled at once.
        missing_end_penalty: subtracted from the reward of an answer without an end token.
        whiten: whether advantages get mean 0 and variance 1; by default for "ppo".
        gamma, lam: of generalised advantages.
        value_network: the critic, [N, 1]; None: a linear layer on the policy's nodes.
        value_weight, value_clip: of the critic's loss.
        seed: of sampling.
        options: those of `Task`.

    Raises:
        ValueError: when an argument is out of its range, or a reward raises or is not finite.

    Source: Williams, 1992; Ahmadian et al., 2024 (RLOO); Shao et al., 2024 (GRPO); Liu et al., 2025
    (Dr. GRPO); Schulman et al., 2017 (PPO); Ziegler et al., 2019 (KL).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern = Causal(),
        *,
        reward: list[Reward] | Reward,  # jsonargparse (4.53) cannot write a list that is second
        reward_weights: list[float] | None = None,
        method: Method = "rloo",
        group_size: int = 4,
        minibatches: int = 1,
        epochs: int = 1,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        clip: float = 0.2,
        kl_weight: float = 0.05,
        kl_place: KLPlace | None = None,
        kl_estimator: Estimator = "k3",
        kl_target: float | None = None,
        kl_horizon: float = 10.0,
        kl_stop: float | None = None,
        missing_end_penalty: float = 0.0,
        whiten: bool | None = None,
        gamma: float = 1.0,
        lam: float = 0.95,
        value_network: nn.Module | None = None,
        value_weight: float = 0.1,
        value_clip: float = 0.2,
        seed: int = 0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.reward = WeightedRewards(reward, reward_weights)
        self.settings = PolicySettings(
            method=method, group_size=group_size, minibatches=minibatches, epochs=epochs,
            max_new_tokens=max_new_tokens, temperature=temperature, clip=clip,
            kl_weight=kl_weight, kl_place=kl_place, kl_estimator=kl_estimator,
            kl_target=kl_target, kl_horizon=kl_horizon, kl_stop=kl_stop,
            missing_end_penalty=missing_end_penalty, whiten=whiten, gamma=gamma, lam=lam,
            value_weight=value_weight, value_clip=value_clip, seed=seed,
        )  # fmt: skip
        if value_network is not None and method != "ppo":
            raise ValueError(
                f"value_network: got a network for {method!r}, expected None; only 'ppo' has a "
                "critic"
            )
        self.critic = Critic(network, value_network) if method == "ppo" else None
        self.reference: FrozenReference | None = None
        self.state = PolicyState(kl_weight)
        self.add_metrics({"loss": Mean(), "reward": Mean(), "length": Mean()})

    def configure_model(self) -> None:
        """Add adapters, if any, and keep the reference, before the weights of a checkpoint."""
        super().configure_model()
        if self.reference is None:
            self.reference = FrozenReference(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of all ranks, so that a run resumes between updates."""
        super().on_save_checkpoint(checkpoint)
        ranks = data_parallel(self)
        checkpoint["policy_optimization"] = ranks.gather_objects(self.state.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of this rank."""
        states, ranks = checkpoint["policy_optimization"], data_parallel(self)
        self.state = PolicyState.of_checkpoint(states, ranks.rank, ranks.size, self.device)

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the loss of a minibatch of answers, []; sample new ones after the last update."""
        state, settings = self.state, self.settings
        if not state.rollouts:
            self._sample(batch)
        self._is_padding = state.is_padding  # of the answers, which may be those to another batch
        rollouts = state.next_minibatch(seed=settings.seed, epochs=settings.epochs)
        with eval_mode(self.network):
            logits, values = policy_and_values(
                self.network, self.critic, rollouts.batch, self.adjacency
            )
        labels = rollouts.batch.y
        log_p = log_probs(logits, labels, temperature=settings.temperature)
        losses = token_losses(log_p, values, rollouts, settings, kl_weight=state.kl_weight)
        with torch.no_grad():
            entropies = entropy(logits, labels, temperature=settings.temperature)
        metrics = update_metrics(rollouts, log_p.detach(), entropies, settings.ratio_clip)
        self._log_all(metrics, len(rollouts.lengths))
        if self._is_too_far(metrics["approx_kl"]):
            state.rollouts = []
        total, count = reduce_losses(losses, rollouts, settings)
        return self.training_loss(total, count, rows=len(rollouts.lengths))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of rewards and lengths of greedy answers, and the number of prompts."""
        completions = self._complete(batch, group_size=1, temperature=0.0)
        rewards = self.reward(completions)
        count = torch.tensor(len(completions))
        size = torch.tensor(sum(len(c.ids) - c.prompt_length for c in completions))
        updates = {"loss": -rewards.sum(), "reward": rewards.sum(), "length": size}
        return {name: (total, count) for name, total in updates.items()}, len(completions)

    def _sample(self, batch: BatchLike) -> None:
        """Sample answers and set what the updates need, all with the same policy."""
        settings, state, ranks = self.settings, self.state, data_parallel(self)
        completions = self._complete(batch, settings.group_size, settings.temperature)
        rewards = self.reward(completions)
        self._log_all(answer_metrics(completions, rewards, settings.group_size), len(completions))
        ended = torch.tensor([completion.ended for completion in completions])
        rewards = rewards - settings.missing_end_penalty * (~ended).float()
        assert self.reference is not None  # set by configure_model
        state.rollouts = [
            evaluate_answers(
                completions[part],
                rewards[part],
                network=self.network,
                critic=self.critic,
                reference=self.reference,
                adjacency=self.adjacency,
                temperature=settings.temperature,
            )
            for part in split_answers(len(lengths(batch)), settings, ranks)
        ]
        state.is_padding = self._is_padding
        self.log("train/kl_weight", state.kl_weight, batch_size=len(completions))
        kl = prepare_updates(state, settings, ranks)
        self.log("train/kl", kl, batch_size=len(completions))
        state.step, state.count = 0, state.count + 1

    def _complete(self, batch: BatchLike, group_size: int, temperature: float) -> list[Completion]:
        return sample_completions(
            self.network,
            self.adjacency,
            require_tokenizer(self),
            batch,
            group_size=group_size,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=temperature,
            seed=(self.settings.seed, self.state.count),
        )

    def _is_too_far(self, approx_kl: Tensor) -> bool:
        """Whether the policy of all ranks is too far from the one that sampled."""
        if self.settings.kl_stop is None:
            return False
        ranks, is_padding = data_parallel(self), self.state.is_padding
        mean = mean_over_ranks(approx_kl.reshape(1), ranks, is_padding=is_padding)
        return mean > self.settings.kl_stop

    def _log_all(self, metrics: dict[str, Tensor], size: int) -> None:
        for name, value in metrics.items():
            self.log(f"train/{name}", value, batch_size=size)
