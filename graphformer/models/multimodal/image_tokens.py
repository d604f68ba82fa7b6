"""Vision-language models: patches of images take the place of tokens in a decoder's text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from graphformer.data.batch import source_batch
from graphformer.models.generation import GenerateOptions, Prompts, as_token_lists, eval_mode
from graphformer.models.model import Model

if TYPE_CHECKING:
    from graphformer.batch_type import BatchLike


class ImageTokens(nn.Module):
    """The embedding of a text with images, [N, C]: each image token is one patch.

    Args:
        features: the token embedding, of width C.
        image: from packed images to a vector per patch, [S, C']; a `ViT` without a head.
        projector: from [S, C'] to [S, C].
        image_token_id: the id of the tokens whose embeddings are those of patches, in order.

    Source: Liu et al., 2023, "Visual instruction tuning" (LLaVA), section 4.1.
    """

    def __init__(
        self, features: nn.Embedding, image: nn.Module, projector: nn.Module, image_token_id: int
    ) -> None:
        super().__init__()
        self.features, self.image, self.projector = features, image, projector
        self.image_token_id = image_token_id
        self._prompt: tuple[Tensor, int] | None = None

    def forward(self, batch: BatchLike) -> Tensor:
        """Return the embedding of the tokens `batch.x` [N] and the patches `batch.source` [S, F].

        Raises:
            ValueError: when the numbers of image tokens and of patches differ.
        """
        x = self.features(batch.x)
        places = batch.x == self.image_token_id
        if self._prompt is None:
            patches = self.encode(batch)
        else:
            patches, length = self._prompt
            places &= batch.pos < length
        count = int(places.sum())
        if not count and (patches is None or self._prompt is not None):
            return x
        if patches is None:
            raise ValueError(
                f"source: got no images for {count} image tokens, expected a patch for each; pass "
                "source, source_lengths, source_pos and source_shapes"
            )
        if len(patches) != count:
            raise _other_number(count, len(patches), name="x")
        return x.masked_scatter(places.unsqueeze(1), patches.to(x.dtype))

    def encode(self, batch: BatchLike) -> Tensor | None:
        """Return the projected patches of the images of a batch, [S, C]; None without images."""
        if getattr(batch, "source", None) is None:
            return None
        return self.projector(self.image(source_batch(batch)))

    @contextmanager
    def using(self, patches: Tensor, length: int) -> Iterator[None]:
        """Use projected patches in calls without images, within a `with` block.

        Args:
            patches: [S, C].
            length: of the prompt; image tokens behind it are tokens like others.
        """
        self._prompt = patches, length
        try:
            yield
        finally:
            self._prompt = None


def _other_number(count: int, expected: int, *, name: str) -> ValueError:
    return ValueError(
        f"{name}: got {count} image tokens, expected {expected}, one for each patch; repeat the "
        "image token"
    )


class VisionLanguageModel(Model):
    """A decoder of texts with images, which are nodes of the same sequence.

    A batch has tokens `x` [N] with `lengths` and `pos`, and packed images as `source` [S, F] with
    `source_lengths`, `source_pos` and `source_shapes`; see `ImageTokens`. The arguments are those
    of `Model`.
    """

    def generate(
        self,
        prompts: Prompts,
        *,
        max_new_tokens: int,
        images: Sequence[BatchLike | None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[int] | list[list[int]]:
        """Continue texts with images token by token; see `graphformer.models.generate`.

        Args:
            prompts: token ids of one text, or of several, with an image token for each patch.
            max_new_tokens: the maximal number of tokens added to a text.
            images: packed images of each text, from `data.pack_images`; None for a text without.
            options: of `graphformer.models.generate`.

        Returns:
            The token ids with their prompt, a list; a list of such lists for several prompts.

        Raises:
            ValueError: when the number of entries of `images` is not that of the prompts, or a
                prompt has another number of image tokens than its image has patches.
        """
        texts, is_batch = as_token_lists(prompts)
        if images is None:
            return super().generate(prompts, max_new_tokens=max_new_tokens, **options)
        if len(images) != len(texts):
            raise ValueError(
                f"images: got {len(images)}, expected {len(texts)}, one entry for each prompt"
            )
        results: list[list[int]] = []
        for text, own in zip(texts, images, strict=True):
            patches, count = self._encode(own), text.count(self._tokens.image_token_id)
            if len(patches) != count:
                raise _other_number(count, len(patches), name="prompts")
            with self._tokens.using(patches, len(text)):
                result = super().generate([text], max_new_tokens=max_new_tokens, **options)
            results += result  # type: ignore[arg-type]
        return results if is_batch else results[0]

    @property
    def _tokens(self) -> ImageTokens:
        assert isinstance(self.embedding, ImageTokens)
        return self.embedding

    def _encode(self, images: BatchLike | None) -> Tensor:
        """Return the projected patches of packed images, [S, C]."""
        if images is None:
            return next(self._tokens.projector.parameters()).new_empty(0, self.transformer.dim)
        with eval_mode(self), torch.no_grad():
            return self._tokens.projector(self._tokens.image(images))
