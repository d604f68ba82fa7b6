"""References: log-probabilities of the policy as it was before training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from graphformer.batch_type import BatchLike
from graphformer.distributed.mesh import DataParallel
from graphformer.models.generation import eval_mode
from graphformer.patterns import Pattern, lengths
from graphformer.tasks.post_training.log_probs import answer_samples, log_probs

_ALONE = DataParallel()


def answer_log_probs(
    network: nn.Module, batch: BatchLike, adjacency: Pattern, *, temperature: float = 1.0
) -> Tensor:
    """Return log p(token) of each answer token, without dropout, [T].

    Args:
        network: computes logits, [N, K].
        batch: with y [N], see `log_probs`.
        adjacency: pattern of the edges of attention.
        temperature: of `log_probs`.
    """
    with eval_mode(network):
        return log_probs(network(batch, adjacency(batch)), batch.y, temperature=temperature)


class Reference(Protocol):
    """What preference and policy optimisation compare a policy with."""

    def log_probs(
        self, network: nn.Module, batch: BatchLike, adjacency: Pattern, *, temperature: float = 1.0
    ) -> Tensor:
        """Return log p0(token) of each answer token, [T]; see `answer_log_probs`."""
        ...


class FrozenReference(nn.Module):
    """A frozen copy of the weights of a network that are trained; it shares all others.

    With adapters these are the adapters and the head, so that the reference of a policy that
    continues from a trained adapter is that adapter, not the network without it.

    Args:
        network: the policy before training.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                self.register_buffer(name.replace(".", "/"), parameter.detach().clone())

    @torch.no_grad()
    def log_probs(
        self, network: nn.Module, batch: BatchLike, adjacency: Pattern, *, temperature: float = 1.0
    ) -> Tensor:
        """Return log p0(token) of each answer token, [T]; see `answer_log_probs`."""
        weights = {name.replace("/", "."): weight for name, weight in self.named_buffers()}
        with eval_mode(network):
            logits = functional_call(network, weights, (batch, adjacency(batch)))
        return log_probs(logits, batch.y, temperature=temperature)


class CachedReference:
    """Log-probabilities of a fixed data set, computed before training and kept in a file.

    A file belongs to one policy, pattern and temperature; samples are found by their content.

    Args:
        folder: of the files.
        key: that of `cache_key`, which names the file.
    """

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self.path = Path(folder).expanduser() / f"{key}.pt"
        self.stored: dict[str, Tensor] = {}
        if self.path.is_file():
            self.stored = torch.load(self.path, weights_only=True)

    def fill(
        self,
        network: nn.Module,
        batches: Iterable[BatchLike],
        adjacency: Pattern,
        *,
        temperature: float = 1.0,
        ranks: DataParallel = _ALONE,
    ) -> None:
        """Compute the log-probabilities of batches that are not stored yet, and write the file.

        Args:
            network: the policy before training.
            batches: all that training and validation use, by this rank.
            adjacency, temperature: of `answer_log_probs`.
            ranks: that train together; each gets what all of them have computed, because samples
                change places between ranks from epoch to epoch, and the first writes the file.
        """
        device, size = next(network.parameters()).device, len(self.stored)
        for batch in batches:
            keys, counts = _sample_keys(batch)
            if all(key in self.stored for key in keys):
                continue
            with torch.no_grad():
                on_device = batch.to(device)
                values = answer_log_probs(network, on_device, adjacency, temperature=temperature)
            parts = [part.clone() for part in values.cpu().split(counts)]
            self.stored |= zip(keys, parts, strict=True)
        for others in ranks.gather_objects(self.stored):
            self.stored |= others
        if len(self.stored) > size and ranks.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            torch.save(self.stored, temporary)
            temporary.replace(self.path)

    def log_probs(
        self, network: nn.Module, batch: BatchLike, adjacency: Pattern, *, temperature: float = 1.0
    ) -> Tensor:
        """Return the stored log p0(token) of each answer token, [T].

        Raises:
            ValueError: when a sample is not stored, as after a change of the data.
        """
        keys, _ = _sample_keys(batch)
        absent = [key for key in keys if key not in self.stored]
        if absent:
            raise ValueError(
                f"reference_cache: got {len(absent)} samples that are not in {self.path}, expected "
                "the data of the start of training; start a new run"
            )
        return torch.cat([self.stored[key] for key in keys]).to(batch.x.device)


def cache_key(network: nn.Module, adjacency: Pattern, *, temperature: float = 1.0) -> str:
    """Return a checksum of the policy: how it was built, its weights, pattern and temperature."""
    built_by = getattr(network, "built_by", None)  # has settings that no weight depends on
    checksum = hashlib.sha256(f"{adjacency!r} {temperature!r} {built_by!r}".encode())
    for name, tensor in network.state_dict().items():
        checksum.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()
        checksum.update(flat.view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()[:32]


def _sample_keys(batch: BatchLike) -> tuple[list[str], list[int]]:
    """Return the checksum of each sample's tokens and labels, and its number of answer tokens."""
    sizes = list(lengths(batch))
    rows = zip(batch.x.cpu().split(sizes), batch.y.cpu().split(sizes), strict=True)
    keys = [hashlib.sha256(torch.stack(row).numpy().tobytes()).hexdigest()[:32] for row in rows]
    return keys, torch.bincount(answer_samples(batch), minlength=len(sizes)).tolist()
