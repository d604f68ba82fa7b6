"""`PolicyOptimization`: REINFORCE, RLOO, GRPO, Dr. GRPO and PPO on sampled answers."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.models.generation import eval_mode
from graphformer.options import checked_options
from graphformer.patterns import Causal, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import require_tokenizer
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.post_training.critic import Critic, no_values
from graphformer.tasks.post_training.kl import Estimator, adapt_kl_weight, estimate_kl
from graphformer.tasks.post_training.log_probs import entropy, log_probs
from graphformer.tasks.post_training.losses.policy import clip_fraction, policy_loss, value_loss
from graphformer.tasks.post_training.policy_methods import (
    KL_PLACE,
    KLPlace,
    Method,
    answer_advantages,
    move_baseline,
    reduce_losses,
    set_advantages,
    whiten_all,
)
from graphformer.tasks.post_training.reference import FrozenReference
from graphformer.tasks.post_training.rewards import Completion, Reward, compute_rewards
from graphformer.tasks.post_training.rollouts import Rollouts, new_rollouts, pack_answers
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
    sampling. Metrics are the mean reward of greedy answers, and `loss`, which is minus that.

    Args:
        network: computes logits over the vocabulary, [N, K].
        adjacency: pattern of the edges of attention; causal.
        reward: returns a number for each of a list of `Completion`s; or several such callables.
        reward_weights: of several rewards, by which these are summed; 1 by default.
        method: see above.
        group_size: number of answers to each prompt of a batch.
        minibatches: number of parts of the answers, one for each step.
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
        self.rewards = reward if isinstance(reward, list) else [reward]
        self.reward_weights = reward_weights or [1.0] * len(self.rewards)
        _check(method, self.rewards, self.reward_weights, temperature, group_size)
        self.method: Method = method
        self.group_size, self.seed = group_size, seed
        self.minibatches, self.epochs = minibatches, epochs
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.clip = None if method in ("reinforce", "rloo") else clip
        self.kl_place = kl_place or KL_PLACE.get(method, "sample")
        self.kl_estimator: Estimator = kl_estimator
        self.kl_target, self.kl_horizon, self.kl_stop = kl_target, kl_horizon, kl_stop
        self.missing_end_penalty = missing_end_penalty
        self.whiten = method == "ppo" if whiten is None else whiten
        self.gamma, self.lam = gamma, lam
        self.value_weight, self.value_clip = value_weight, value_clip
        self.critic = Critic(network, value_network) if method == "ppo" else None
        self.reference: FrozenReference | None = None
        self._rollouts: list[Rollouts] = []
        # Steps since sampling, number of samplings, weight of the KL, moving average of rewards.
        self._state: dict[str, Any] = {
            "step": 0, "count": 0, "kl_weight": kl_weight, "baseline": None
        }  # fmt: skip
        self.add_metrics({"loss": Mean(), "reward": Mean(), "length": Mean()})

    def configure_model(self) -> None:
        """Add adapters, if any, and keep the reference, before the weights of a checkpoint."""
        super().configure_model()
        if self.reference is None:
            self.reference = FrozenReference(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the rollouts and the state of the method, so that a run resumes between updates."""
        super().on_save_checkpoint(checkpoint)
        stored = [rollouts.state_dict() for rollouts in self._rollouts]
        checkpoint["policy_optimization"] = {**self._state, "rollouts": stored}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the rollouts and the state of the method."""
        state = dict(checkpoint["policy_optimization"])
        stored = state.pop("rollouts")
        self._state = state
        self._rollouts = [Rollouts.from_state_dict(one, self.device) for one in stored]

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the loss of a minibatch of answers, []; sample new ones after the last update."""
        if not self._rollouts:
            self._sample(batch)
        rollouts = self._next_minibatch()
        with eval_mode(self.network):
            logits, values = self._forward(rollouts.batch)
        labels = rollouts.batch.y
        log_p = log_probs(logits, labels, temperature=self.temperature)
        losses = policy_loss(log_p, rollouts.log_p, rollouts.advantages, clip=self.clip)
        if self.kl_place == "loss":
            kl = estimate_kl(log_p, rollouts.reference, self.kl_estimator)
            losses = losses + self._state["kl_weight"] * kl
        if self.critic is not None:
            errors = value_loss(values, rollouts.values, rollouts.returns, clip=self.value_clip)
            losses = losses + self.value_weight * errors
        with torch.no_grad():
            self._log_update(rollouts, log_p, entropy(logits, labels, temperature=self.temperature))
        total, count = reduce_losses(
            losses, rollouts, self.method, max_new_tokens=self.max_new_tokens
        )
        return self.training_loss(total, count, rows=len(rollouts.lengths))

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums of rewards and lengths of greedy answers, and the number of prompts."""
        completions = self._complete(batch, group_size=1, temperature=0.0)
        rewards = self._weighted_rewards(completions)
        count = torch.tensor(len(completions))
        size = torch.tensor(sum(len(c.ids) - c.prompt_length for c in completions))
        updates = {"loss": -rewards.sum(), "reward": rewards.sum(), "length": size}
        return {name: (total, count) for name, total in updates.items()}, len(completions)

    def _sample(self, batch: BatchLike) -> None:
        """Sample answers and set what the updates need, all with the same policy."""
        completions = self._complete(batch, self.group_size, self.temperature)
        rewards = self._weighted_rewards(completions)
        self._log_answers(completions, rewards)
        ended = torch.tensor([completion.ended for completion in completions])
        rewards = rewards - self.missing_end_penalty * (~ended).float()
        size = self.group_size * -(-len(lengths(batch)) // self.minibatches)
        # Packed as in the updates, so that all ratios of the first one are exactly 1.
        parts = list(zip(_chunks(completions, size), rewards.split(size), strict=True))
        self._rollouts = [self._evaluate_policy(part, reward) for part, reward in parts]
        kl = torch.cat([r.sum(r.log_p - r.reference) for r in self._rollouts]).mean().item()
        self.log("train/kl", kl, batch_size=len(completions))
        self.log("train/kl_weight", self._state["kl_weight"], batch_size=len(completions))
        self._set_advantages()
        if self.kl_target is not None:
            weight, horizon = self._state["kl_weight"], self.kl_horizon
            weight = adapt_kl_weight(weight, kl, target=self.kl_target, horizon=horizon)
            self._state["kl_weight"] = weight
        self._state |= {"step": 0, "count": self._state["count"] + 1}

    def _complete(self, batch: BatchLike, group_size: int, temperature: float) -> list[Completion]:
        return sample_completions(
            self.network,
            self.adjacency,
            require_tokenizer(self),
            batch,
            group_size=group_size,
            max_new_tokens=self.max_new_tokens,
            temperature=temperature,
            seed=(self.seed, self._state["count"], self.global_rank),
        )

    def _weighted_rewards(self, completions: list[Completion]) -> Tensor:
        """Return the sum of all rewards by their weights, [B]."""
        pairs = zip(self.rewards, self.reward_weights, strict=True)
        return torch.stack([w * compute_rewards(r, completions) for r, w in pairs]).sum(0)

    @torch.no_grad()
    def _evaluate_policy(self, completions: list[Completion], rewards: Tensor) -> Rollouts:
        """Return a minibatch with log-probabilities of policy and reference, and values."""
        rows = [completion.ids for completion in completions]
        batch = pack_answers(rows, [c.prompt_length for c in completions]).to(self.device)
        with eval_mode(self.network):
            logits, values = self._forward(batch)
        log_p = log_probs(logits, batch.y, temperature=self.temperature)
        assert self.reference is not None  # set by configure_model
        reference = self.reference.log_probs(
            self.network, batch, self.adjacency, temperature=self.temperature
        )
        rollouts = new_rollouts(batch, rewards.to(self.device), log_p, reference)
        rollouts.values = values
        return rollouts

    def _forward(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the policy's logits, [N, K], and the critic's values or zeros, [T]."""
        if self.critic is None:
            logits = self(batch)
            return logits, no_values(logits, batch)
        logits, values = self.critic(self.network, batch, self.adjacency)
        return logits, values.float()

    @torch.no_grad()
    def _set_advantages(self) -> None:
        """Set the advantages and returns of all minibatches."""
        state = self._state
        rewards = torch.cat([rollouts.rewards for rollouts in self._rollouts])
        if self.kl_place == "sample":
            kl = torch.cat([r.sum(r.log_p - r.reference) for r in self._rollouts])
            rewards = rewards - state["kl_weight"] * kl
        baseline = state["baseline"]
        state["baseline"] = move_baseline(baseline, rewards)
        answers = answer_advantages(
            rewards,
            self.method,
            group_size=self.group_size,
            baseline=state["baseline"] if baseline is None else baseline,
        )
        weight = state["kl_weight"] if self.kl_place == "token" else 0.0
        parts = answers.split([len(rollouts.lengths) for rollouts in self._rollouts])
        for rollouts, part in zip(self._rollouts, parts, strict=True):
            set_advantages(
                rollouts, part, self.method, token_kl_weight=weight, gamma=self.gamma, lam=self.lam
            )
        if self.whiten:
            whiten_all(self._rollouts)

    def _next_minibatch(self) -> Rollouts:
        """Return the minibatch of this step; after the last step the rollouts are dropped."""
        step, number = self._state["step"], len(self._rollouts)
        epoch = step // number
        generator = np.random.default_rng((self.seed, self._state["count"], epoch))
        chosen = self._rollouts[int(generator.permutation(number)[step % number])]
        self._state["step"] = step + 1
        if self._state["step"] == self.epochs * number:
            self._rollouts = []
        return chosen

    def _log_answers(self, completions: list[Completion], rewards: Tensor) -> None:
        groups, size = rewards.view(-1, self.group_size), len(completions)
        equal = (groups == groups[:, :1]).all(1).float().mean()
        tokens = sum(len(c.ids) - c.prompt_length for c in completions) / size
        values: dict[str, Tensor | float] = {
            "reward": rewards.mean(),
            "reward_std": rewards.std(correction=0),
            "frac_reward_zero_std": equal,
            "completions/mean_length": tokens,
        }
        for name, value in values.items():
            self.log(f"train/{name}", value, batch_size=size)

    def _log_update(self, rollouts: Rollouts, log_p: Tensor, entropies: Tensor) -> None:
        """Log how far the policy is from the one that sampled; stop updates that went too far."""
        old, rows = rollouts.log_p, len(rollouts.lengths)
        approx_kl = estimate_kl(old, log_p, "k3").mean()
        self.log("train/entropy", entropies.mean(), batch_size=rows)
        self.log("train/approx_kl", approx_kl, batch_size=rows)
        if self.clip is not None:
            clipped = clip_fraction(log_p, old, rollouts.advantages, clip=self.clip)
            self.log("train/clip_fraction", clipped, batch_size=rows)
        if self.kl_stop is not None and approx_kl.item() > self.kl_stop:
            self._rollouts = []


def _chunks(completions: list[Completion], size: int) -> list[list[Completion]]:
    return [completions[i : i + size] for i in range(0, len(completions), size)]


def _check(
    method: str, rewards: list[Reward], weights: list[float], temperature: float, group_size: int
) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method: got {method!r}, expected one of {', '.join(get_args(Method))}")
    if len(rewards) != len(weights):
        raise ValueError(
            f"reward_weights: got {len(weights)} for {len(rewards)} rewards, expected one for each"
        )
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, expected a number above 0 to sample")
    if method in ("rloo", "grpo", "dr_grpo") and group_size < 2:
        raise ValueError(
            f"group_size: got {group_size}, expected 2 or more for {method!r}, which compares "
            "answers to the same prompt"
        )
