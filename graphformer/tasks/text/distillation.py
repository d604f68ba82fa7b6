"""`Distillation`: a student over a sparse adjacency is trained to reproduce a teacher."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.models.generation import eval_mode
from graphformer.nn.attention import MultiHeadAttention
from graphformer.nn.record import AttentionRecord, record_attention, weights_on_edges
from graphformer.options import checked_options
from graphformer.patterns import Complete, Pattern, lengths
from graphformer.tasks.base import Stage, Task, Updates
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.metrics import Mean
from graphformer.tasks.options import TaskOptions
from graphformer.tasks.warm_start import load_pretrained


class States(NamedTuple):
    """What a forward pass computes, as far as the loss compares it."""

    output: Tensor
    """[B, K] or [N, K]."""
    hidden: list[Tensor]
    """The output of each block, [N, C]."""
    values: list[Tensor]
    """The values of the last block, one tensor [N, Hkv, D]; none if they are not compared."""
    attention: list[AttentionRecord]
    """The attention weights of the last block; none if they are not compared."""


class Distillation(Task):
    """A student learns the outputs, hidden states, attention and value relations of a teacher.

    The teacher is a frozen copy of the network with its own weights and its own adjacency, so that
    a student over few edges learns from the complete graph. The loss is the weighted sum of

    - `output`: 1 - cosine of the outputs;
    - `hidden`: squared error of the outputs of each block, relative to their mean square, averaged
      over the blocks;
    - `attention`: divergence of the attention in the last block, that of the teacher restricted to
      the edges of the student and normalised again;
    - `values`: divergence of the value relations softmax(v v^T / sqrt(D)) in the last block, over
      all pairs of nodes of a sample.

    The metric `cosine` is that of the outputs of student and teacher. Checkpoints contain the
    student only. Dropout is off.

    Args:
        network: the student; its blocks are `network.transformer.blocks`.
        adjacency: pattern of the student's edges.
        teacher: the teacher's weights: a checkpoint, the folder of a run, or a Hugging Face folder;
            `pretrained` by default.
        teacher_adjacency: pattern of the teacher's edges.
        output, hidden, attention, values: weights of the four parts of the loss.
        options: those of `Task`.

    Raises:
        ValueError: when neither `teacher` nor `pretrained` is given, or all weights are 0.

    Source: Jiao et al., 2020 (TinyBERT); Wang et al., 2020 (MiniLM).
    """

    @checked_options
    def __init__(
        self,
        network: nn.Module,
        adjacency: Pattern,
        *,
        teacher: str | None = None,
        teacher_adjacency: Pattern = Complete(),
        output: float = 1.0,
        hidden: float = 1.0,
        attention: float = 0.0,
        values: float = 0.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        super().__init__(network, adjacency, **options)
        self.teacher = teacher
        self.teacher_adjacency = teacher_adjacency
        weights = {"output": output, "hidden": hidden, "attention": attention, "values": values}
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(
                f"output, hidden, attention, values: got {', '.join(map(str, weights.values()))}, "
                "expected weights of at least 0, one of them above 0"
            )
        self.weights = weights
        self._teacher: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not a submodule
        self.add_metrics({"loss": Mean(), "cosine": Mean()})

    def setup(self, stage: str) -> None:
        """Load the weights of the student and of the teacher.

        Raises:
            ValueError: when no weights of a teacher are given.
        """
        super().setup(stage)
        if stage == "predict" or self._teacher:
            return
        source = self.teacher or self.pretrained
        if source is None:
            raise ValueError(
                "teacher: got None and no pretrained, expected the weights of the teacher; set "
                "--model.teacher or --model.pretrained to a checkpoint, a run or a folder"
            )
        teacher = copy.deepcopy(self.network)
        argument = "teacher" if self.teacher else "pretrained"
        load_pretrained(teacher, source, argument=argument)
        self._teacher = (teacher.requires_grad_(False).eval(),)

    def training_step(self, batch: BatchLike, batch_idx: int) -> Tensor:
        """Return the mean loss over the samples of a batch, []."""
        loss, _ = self._compare(batch)
        count = len(lengths(batch))
        return self.training_loss(loss * count, loss.new_tensor(count), rows=count)

    def evaluate(self, batch: BatchLike, batch_idx: int, stage: Stage) -> tuple[Updates, int]:
        """Return the sums over the samples of the loss and of the cosine."""
        loss, cosine = self._compare(batch)
        rows = len(lengths(batch))
        number, count = (torch.tensor(n, device=loss.device) for n in (rows, cosine.numel()))
        return {"loss": (loss * rows, number), "cosine": (cosine.sum(), count)}, rows

    def _compare(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Return the loss, [], and the cosine of each row of the outputs, [B] or [N]."""
        with torch.no_grad():
            goal = self._states(self._teacher_on(batch), batch, self.teacher_adjacency)
        with eval_mode(self.network):
            own = self._states(self.network, batch, self.adjacency)
        outputs = at_least_float32(own.output), at_least_float32(goal.output)
        cosine = F.cosine_similarity(outputs[0], outputs[1], dim=-1)
        parts = {
            "output": lambda: 1 - cosine.mean(),
            "hidden": lambda: hidden_loss(own.hidden, goal.hidden),
            "attention": lambda: attention_loss(own.attention[0], goal.attention[0]),
            "values": lambda: value_loss(own.values[0], goal.values[0], lengths(batch)),
        }
        terms = [weight * parts[name]() for name, weight in self.weights.items() if weight]
        return torch.stack(terms).sum(), cosine

    def _teacher_on(self, batch: BatchLike) -> nn.Module:
        """Return the teacher on the device of the batch."""
        return self._teacher[0].to(batch.x.device)

    def _states(self, network: nn.Module, batch: BatchLike, adjacency: Pattern) -> States:
        blocks: Any = network.get_submodule("transformer.blocks")
        attention: list[AttentionRecord] = []
        values: list[Tensor] = []
        with ExitStack() as stack:
            hidden = stack.enter_context(_outputs(blocks))
            if self.weights["attention"]:
                attention = stack.enter_context(record_attention(blocks[-1]))
            if self.weights["values"]:
                values = stack.enter_context(_values(blocks[-1].attention))
            output = network(batch, adjacency(batch))
        return States(output, hidden, values, attention)


def hidden_loss(own: list[Tensor], goal: list[Tensor]) -> Tensor:
    """Return the mean over blocks of |h - g|^2 / |g|^2, []; TinyBERT, equation 8, but relative.

    Args:
        own, goal: outputs h and g of each block, [N, C].
    """
    pairs = [(at_least_float32(h), at_least_float32(g)) for h, g in zip(own, goal, strict=True)]
    return torch.stack([F.mse_loss(h, g) / g.square().mean() for h, g in pairs]).mean()


def attention_loss(own: AttentionRecord, goal: AttentionRecord) -> Tensor:
    """Return the mean over targets and heads of KL(teacher || student), []; MiniLM, equation 7.

    The teacher's weights are taken on the edges of the student, where they are normalised.
    """
    (weights,) = weights_on_edges([goal], own.adjacency.edge_index)
    target = own.adjacency.edge_index[1]
    shape = own.adjacency.shape[0], weights.shape[1]
    total = weights.new_zeros(shape).index_add(0, target, weights)
    p = at_least_float32(weights / total[target].clamp(min=torch.finfo(weights.dtype).tiny))
    q = at_least_float32(own.weights).clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.special.xlogy(p, p) - p * q.log()).sum() / max(shape[0] * shape[1], 1)


def value_loss(own: Tensor, goal: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the mean over nodes and heads of KL(teacher || student) of the value relations, [].

    Args:
        own, goal: values, [N, Hkv, D].
        sizes: number of nodes of each sample.

    Source: Wang et al., 2020 (MiniLM), equations 8 to 10.
    """
    total = own.new_zeros((), dtype=torch.float32)
    for h, g in zip(own.split(sizes), goal.split(sizes), strict=True):
        p, q = (_relation(at_least_float32(v)) for v in (g, h))
        total = total + F.kl_div(q, p, log_target=True, reduction="sum")
    return total / max(own.shape[0] * own.shape[1], 1)


def _relation(v: Tensor) -> Tensor:
    """Return log softmax(v v^T / sqrt(D)) of the values [n, H, D] of a sample, [H, n, n]."""
    v = v.transpose(0, 1)
    return (v @ v.transpose(1, 2) / v.shape[-1] ** 0.5).log_softmax(-1)


@contextmanager
def _outputs(blocks: nn.ModuleList) -> Iterator[list[Tensor]]:
    """Collect the outputs [N, C] of blocks within a `with` block, in the order of the calls."""
    outputs: list[Tensor] = []

    def collect(_: nn.Module, __: Any, output: Tensor) -> None:
        outputs.append(output)

    handles = [block.register_forward_hook(collect) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _values(attention: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the values [N, Hkv, D] of an attention module within a `with` block.

    Raises:
        ValueError: when the module has no map to queries, keys and values.
    """
    if not isinstance(attention, MultiHeadAttention) or not hasattr(attention, "qkv"):
        raise ValueError(
            f"values: got a weight above 0 for {type(attention).__name__}, expected 0, because "
            "only MultiHeadAttention has values to compare; set --model.values 0"
        )
    values: list[Tensor] = []

    def collect(_: nn.Module, __: Any, qkv: Tensor) -> None:
        width = attention.heads[2] * attention.head_dim
        values.append(qkv[..., -width:].unflatten(-1, (-1, attention.head_dim)))

    handle = attention.qkv.register_forward_hook(collect)
    try:
        yield values
    finally:
        handle.remove()
