"""`TrainedModel`: a network with all that is needed to apply it to new inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from typing_extensions import Unpack

from graphformer.batch_type import BatchLike
from graphformer.data import Tokenizer
from graphformer.data.base import DataModule
from graphformer.models import EncoderDecoder, Model, encode, generate
from graphformer.models.exportable import upload
from graphformer.models.generation import (
    GenerateOptions,
    decoding_options,
    eval_mode,
    with_defaults,
)
from graphformer.models.text.recurrent import RecurrentModel
from graphformer.nn.head import Head, pool
from graphformer.patterns import Pattern
from graphformer.patterns import lengths as sample_lengths
from graphformer.tasks import (
    Classification,
    LinkPrediction,
    MultiLabelClassification,
    Regression,
    Task,
)
from graphformer.tasks.labels import at_least_float32
from graphformer.tasks.text.few_shot import first_token
from graphformer.trained.card import Facts
from graphformer.trained.links import Pairs, known_edges, pair_index
from graphformer.trained.prediction import Prediction, of_classes, of_labels
from graphformer.trained.saving import save_run, save_without_run


@dataclass
class TrainedModel:
    """A trained network with its adjacency, tokenizer, class names and preparation of inputs.

    Inputs are texts, images (paths, images of Pillow, or arrays [C, height, width]), or graphs
    (PyG's `Data`, for a run on typed graphs `HeteroData`), one or a list; they are prepared as the
    data of training were. A batch, such as one of the data module, is taken as it is.

    Attributes:
        network: the network, in evaluation mode.
        adjacency: pattern of the edges of attention; it may be replaced at any time.
        task: that the network was trained by; None for a Hugging Face folder.
        tokenizer: of the texts; None for other data.
        classes: names of the classes; None where they have numbers only.
        data: the data module of the run, before `setup`; None where it is not known.
        checkpoint: the file that the model was loaded from; None for a Hugging Face folder.
    """

    network: nn.Module
    adjacency: Pattern
    task: Task | None = None
    tokenizer: Tokenizer | None = None
    classes: list[str] | None = None
    data: DataModule | None = None
    checkpoint: Path | None = None

    def save(self, folder: str | os.PathLike[str], *, licence: str | None = None) -> None:
        """Write a folder that `gf.load` and `--ckpt` read: model.ckpt, config.yaml and README.md.

        The weights and the adjacency are the present ones. README.md is a model card with the
        settings and figures of the run. A model of a Hugging Face folder is written by
        `save_pretrained`, without a card.

        Args:
            folder: a new or empty folder, or one that `save` has written.
            licence: of the model, as the Hub names it, such as "mit".

        Raises:
            ValueError: when the folder has another model or run, or the adjacency is not stored.
        """
        self._save(folder, Path(folder).name, licence)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        message: str = "Upload model",
        licence: str | None = None,
    ) -> None:
        """Upload what `save` writes to the Hugging Face Hub; `gf.load(name)` reads it.

        The account is that of `hf auth login` or of the variable HF_TOKEN.

        Args:
            name: "organisation/name"; it is created if it does not exist.
            private: whether a new repository is private.
            message: of the commit.
            licence: of the model, as the Hub names it, such as "mit".

        Raises:
            ModuleNotFoundError: when the package `huggingface_hub` is not installed.
            ValueError: when the name is malformed, or `save` refuses the model.
        """
        upload(
            lambda folder: self._save(folder, name, licence), name, private=private, message=message
        )

    def _save(self, folder: str | os.PathLike[str], title: str, licence: str | None) -> None:
        if self.task is None or self.checkpoint is None:
            save_without_run(self.network, self.adjacency, folder, licence)
            return
        facts = Facts(self.task, self.adjacency, self.checkpoint, self.classes, self.data)
        save_run(facts, folder, title=title, licence=licence)

    def pack(self, inputs: Any) -> BatchLike:
        """Return inputs as one batch, as `predict` reads them.

        Raises:
            TypeError: when the data of the run do not prepare new inputs.
        """
        if isinstance(inputs, Data) and self.data is None:
            return inputs
        listed = _as_list(inputs)
        if self.data is None:
            raise TypeError(
                "inputs: got inputs for a model without its data module, expected a batch; make "
                "one by graphformer.data.pack_tokens or pack_images"
            )
        return self.data.pack(listed)

    def predict(
        self, inputs: Any, *, batch_size: int = 32, pairs: Pairs | None = None
    ) -> Prediction:
        """Return classes and probabilities, the values of a regression, or the scores of links.

        Args:
            inputs: see the class; a row of the result belongs to an input, or to a node if the
                model predicts nodes.
            batch_size: number of inputs that are computed at once.
            pairs: after `LinkPrediction`, (source, target) by the numbers of nodes, a list or a
                tensor [2, P]; the inputs are then one graph with the known edges, and a row of the
                result belongs to a pair.

        Raises:
            TypeError: when the data of the run do not prepare new inputs, or pairs are missing or
                given for another task.
            ValueError: when there are no inputs, or there are no such nodes.
        """
        if isinstance(self.task, LinkPrediction):
            return self._predict_links(inputs, pairs)
        if pairs is not None:
            raise TypeError(
                f"pairs: got some for the task {type(self.task).__name__}, "
                "expected LinkPrediction; leave them out"
            )
        output = self._outputs(inputs, batch_size)
        if isinstance(self.task, Classification):
            return of_classes(output / self.task.temperature, self.classes)
        if isinstance(self.task, MultiLabelClassification):
            return of_labels(output, self.classes, self.task.threshold)
        return Prediction(output)

    def _predict_links(self, graph: Any, pairs: Pairs | None) -> Prediction:
        """Return logits and probabilities of links, [P]."""
        if pairs is None or not isinstance(graph, Data):
            raise TypeError(
                f"pairs: got {'none' if pairs is None else 'some'} with {type(graph).__name__}, "
                "expected pairs of nodes and a Data; call predict(graph, pairs=[(0, 1)]), or "
                "encode(graph) for the vectors of nodes"
            )
        index = pair_index(pairs, int(graph.num_nodes or 0))
        nodes = at_least_float32(self._outputs(known_edges(graph), 1))
        logits = (nodes[index[0]] * nodes[index[1]]).sum(1)
        return Prediction(logits, logits.sigmoid())

    @torch.no_grad()
    def _outputs(self, inputs: Any, batch_size: int) -> Tensor:
        """Return the output of the network, [rows, K].

        Raises:
            ValueError: when there are no inputs.
        """
        with eval_mode(self.network):
            outputs = [
                self.network(batch, self.adjacency(batch))
                for batch in self._batches(inputs, batch_size)
            ]
        if not outputs:
            raise ValueError("inputs: got none, expected one or more; pass a list with some")
        return torch.cat(outputs)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int = 100,
        **options: Unpack[GenerateOptions],
    ) -> str | list[str]:
        """Return the text that continues each prompt, or that answers it (encoder-decoders).

        Args:
            prompts: one, for which one text is returned, or several.
            max_new_tokens: the maximal number of tokens of each text.
            options: of `graphformer.models.generate`, such as temperature and seed.

        Raises:
            TypeError: when the model does not generate text.
        """
        network, tokenizer = self.network, self.tokenizer
        if isinstance(self.task, Classification | MultiLabelClassification | Regression):
            raise TypeError(
                f"network: got one of the task {type(self.task).__name__}, expected a language "
                "model or an encoder-decoder; call predict"
            )
        if tokenizer is None or not isinstance(network, EncoderDecoder | Model | RecurrentModel):
            raise TypeError(
                f"network: got {type(network).__name__}, expected a language model or an "
                "encoder-decoder with a tokenizer; load a run of one"
            )
        listed = _as_list(prompts)
        merged: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "eos_token_id": tokenizer.eos_id,
            **with_defaults(network, options),
        }
        if isinstance(network, EncoderDecoder):
            ids = [tokenizer.encode(text).tolist() for text in listed]
            merged = {**decoding_options(network.decoder, self.adjacency), **merged}
            answers: Any = network.generate(ids, start_id=first_token(network, tokenizer), **merged)
            texts = [tokenizer.decode(answer) for answer in answers]
        else:
            ids = [tokenizer.encode_prompt(text).tolist() for text in listed]
            merged = {**decoding_options(network, self.adjacency), **merged}
            whole = generate(network, ids, **merged)
            starts = [len(tokenizer.decode(prompt)) for prompt in ids]
            texts = [tokenizer.decode(i)[n:] for i, n in zip(whole, starts, strict=True)]
        return texts[0] if isinstance(prompts, str) else texts

    @torch.no_grad()
    def encode(self, inputs: Any, *, batch_size: int = 32) -> Tensor:
        """Return a vector for each input, [inputs, C], or for each node: what the head reads.

        After `LinkPrediction` these are the vectors of nodes whose products score a pair.

        Args:
            inputs: see the class.
            batch_size: number of inputs that are computed at once.

        Raises:
            TypeError: when the network has no head.
        """
        network, head = self.network, getattr(self.network, "head", None)
        if isinstance(network, Model) and network.tokenizer is not None and self.data is None:
            return encode(network, inputs)
        if isinstance(self.task, LinkPrediction):
            return self._outputs(known_edges(inputs), batch_size)
        if not isinstance(head, nn.Module):
            raise TypeError(
                f"network: got {type(network).__name__}, expected one with a head, which reads "
                "the vectors; call the network's own method"
            )
        found: list[Tensor] = []
        hook = head.register_forward_pre_hook(
            lambda module, arguments: found.append(_read_by(module, *arguments))
        )
        try:
            self._outputs(inputs, batch_size)
        finally:
            hook.remove()
        return torch.cat(found)

    def _batches(self, inputs: Any, batch_size: int) -> Iterator[BatchLike]:
        device = next(self.network.parameters()).device
        if isinstance(inputs, Data) and (inputs.get("lengths") is not None or "ptr" in inputs):
            yield inputs.to(device)  # a batch
            return
        listed = _as_list(inputs)
        for start in range(0, len(listed), batch_size):
            part = listed[start : start + batch_size]
            packed = self.pack(part[0] if self.data is None and len(part) == 1 else part)
            yield packed.to(device)


def _read_by(head: nn.Module, nodes: Tensor, batch: Any) -> Tensor:
    """Return the nodes that a head maps, [N, C], or the vectors that it pools of them, [B, C]."""
    how = head.pool if isinstance(head, Head) else None
    return nodes if how is None else pool(nodes, sample_lengths(batch), how)


def _as_list(inputs: Any) -> list[Any]:
    single = isinstance(inputs, str | os.PathLike | Data | HeteroData) or hasattr(inputs, "convert")
    is_array = getattr(inputs, "ndim", 4) <= 3  # one image
    return [inputs] if single or is_array else list(inputs)
