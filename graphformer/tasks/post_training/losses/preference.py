"""Losses of preference optimisation, from log-probabilities of whole answers of P pairs.

The margin of a pair is [log pi(c) - log pi0(c)] - [log pi(r) - log pi0(r)] for the chosen answer c,
the rejected answer r, the policy pi and the reference pi0. Losses are returned by pair, [P].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dpo_loss(margin: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Return -(1 - s) log sigmoid(beta m) - s log sigmoid(-beta m), [P].

    With margins of per-token means it is the length-normalised loss.

    Args:
        margin: m, [P].
        beta: inverse strength of the constraint to the reference.
        label_smoothing: s, the assumed share of pairs whose answers are swapped.

    Source: Rafailov et al., 2023, equation 7; Mitchell, 2023 (label smoothing, "cDPO"); Meng et
    al., 2024, table 3 (length-normalised).
    """
    swapped = F.logsigmoid(-beta * margin)
    return -(1 - label_smoothing) * F.logsigmoid(beta * margin) - label_smoothing * swapped


def hinge_loss(margin: Tensor, *, beta: float) -> Tensor:
    """Return max(0, 1 - beta m), [P].

    Args:
        margin: m, [P].
        beta: scale of the margin.

    Source: Liu et al., 2024 (RSO), equation 8; Zhao et al., 2023 (SLiC-HF).
    """
    return torch.relu(1 - beta * margin)


def ipo_loss(margin: Tensor, *, beta: float) -> Tensor:
    """Return (m - 1 / (2 beta))^2, [P].

    Args:
        margin: m of mean log-ratios per answer token, [P]: sums depend on the length, while the
            target does not.
        beta: of the target 1 / (2 beta).

    Source: Azar et al., 2024, equation 17.
    """
    return (margin - 1 / (2 * beta)).square()


def simpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float, target_margin: float) -> Tensor:
    """Return -log sigmoid(beta (c - r) - gamma), [P]; without a reference.

    Args:
        chosen, rejected: c and r, mean log-probability per token of the answers, [P].
        beta: scale of the difference.
        target_margin: gamma.

    Source: Meng et al., 2024, equation 6.
    """
    return -F.logsigmoid(beta * (chosen - rejected) - target_margin)


def orpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Return -c - beta log sigmoid(log odds(c) - log odds(r)), [P]; without a reference.

    odds(x) is p / (1 - p) with p = exp(x); -c is the loss of instruction tuning.

    Args:
        chosen, rejected: c and r, mean log-probability per token of the answers, [P].
        beta: weight of the odds ratio.

    Source: Hong et al., 2024, equations 4 to 7.
    """
    log_odds = (chosen - _log1mexp(chosen)) - (rejected - _log1mexp(rejected))
    return -chosen - beta * F.logsigmoid(log_odds)


def kto_loss(
    log_ratio: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Return w (1 - sigmoid(beta (l - z))) for desirable answers, else w (1 - sigmoid(...)), [B].

    Of an undesirable answer the argument of the sigmoid is beta (z - l).

    Args:
        log_ratio: l = log pi - log pi0 of each answer, [B].
        desirable: which answers are, bool [B].
        kl: z, [], see `kto_kl`.
        beta: scale.
        desirable_weight, undesirable_weight: w of the two kinds.

    Source: Ethayarajh et al., 2024, equation 8.
    """
    difference = beta * (log_ratio - kl)
    sign = torch.where(desirable, 1.0, -1.0)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * (1 - (sign * difference).sigmoid())


def kto_kl(mismatched: Tensor) -> Tensor:
    """Return max(0, mean log-ratio) over mismatched pairs of prompt and answer, [], no gradient.

    Args:
        mismatched: log pi - log pi0 of each prompt with the next prompt's answer, [B].

    Raises:
        ValueError: when there is one pair only, which cannot be mismatched.

    Source: Ethayarajh et al., 2024, section 4.2.
    """
    if len(mismatched) < 2:
        raise ValueError(
            f"batch: got {len(mismatched)} answer, expected 2 or more for KTO, which estimates "
            "its reference point from mismatched answers; raise max_tokens"
        )
    return mismatched.detach().mean().clamp(min=0)


def _log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0, [P]; finite at x = 0 too."""
    return (-x.clamp(max=-torch.finfo(x.dtype).tiny).expm1()).log()
