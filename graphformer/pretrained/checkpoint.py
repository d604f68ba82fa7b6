"""A checkpoint that is being loaded: its keys, converted tensors and tied weights."""

from __future__ import annotations

from typing import NamedTuple

import torch

from graphformer.pretrained.checkpoint_io import OverlayReader, TensorReader
from graphformer.pretrained.config import Config
from graphformer.pretrained.families import Family, Kind
from graphformer.pretrained.key_mapping import alternatives, canonical_key


class Checkpoint(NamedTuple):
    """A checkpoint that is being loaded.

    Attributes:
        config: its settings.
        family: of its model type.
        tensors: reads its tensors by stored key.
        keys: canonical key to stored key.
    """

    config: Config
    family: Family
    tensors: TensorReader
    keys: dict[str, str]


def canonical_keys(tensors: TensorReader, family: Family, config: Config) -> dict[str, str]:
    """Return the stored key of each canonical key."""
    keys: dict[str, str] = {}
    for stored in tensors.keys():  # noqa: SIM118 - a reader is not a mapping
        canonical = canonical_key(stored, family)
        if canonical in keys:
            raise ValueError(
                f"the weights of {config.origin}: got both {keys[canonical]} and {stored}, "
                "expected one of them"
            )
        keys[canonical] = stored
    return keys


def convert_stored(checkpoint: Checkpoint) -> Checkpoint:
    """Replace the tensors that are stored in another form by those of our model."""
    config, family, tensors, keys = checkpoint
    assert family.conversion is not None
    chosen = family.conversion.keys
    converted_keys = chosen(keys) if callable(chosen) else chosen
    check_keys(config, missing=[key for key in converted_keys if key not in keys])
    stored = {key: read_tensor(tensors, keys[key]) for key in converted_keys}
    # Under new keys, for the stored ones may be used by the reader below.
    converted = {
        f"{key} (converted)": tensor
        for key, tensor in family.conversion.to_model(config, stored).items()
    }
    others = {key: name for key, name in keys.items() if key not in converted_keys}
    replaced = {name.removesuffix(" (converted)"): name for name in converted}
    return checkpoint._replace(tensors=OverlayReader(tensors, converted), keys=others | replaced)


def is_tied(checkpoint: Checkpoint, kind: Kind) -> bool:
    """Whether the head shares the embedding's weight.

    As the config says, unless both are stored and differ: then it is not tied, as in transformers.
    """
    config, family, tensors, keys = checkpoint
    tied = bool(config.get("tie_word_embeddings", family.tie_word_embeddings))
    ends = [_input_key(family, keys), _output_key(family, kind)]
    if not tied or not all(key in keys for key in ends):
        return tied
    names = [keys[str(key)] for key in ends]
    if tensors.get_shape(names[0]) != tensors.get_shape(names[1]):
        return tied  # reported with the other shapes
    same = are_equal(tensors, names)
    if not same:
        config.values["tie_word_embeddings"] = False
    return same


def are_equal(tensors: TensorReader, keys: list[str]) -> bool:
    """Whether stored tensors of one shape are equal."""
    first, *others = (read_tensor(tensors, key) for key in keys)
    return all(torch.equal(first, other) for other in others)


def read_tensor(tensors: TensorReader, key: str) -> torch.Tensor:
    """Return a stored tensor."""
    tensor = torch.empty(tensors.get_shape(key), dtype=tensors.get_dtype(key))
    tensors.read_into(key, tensor)
    return tensor


def _input_key(family: Family, keys: dict[str, str]) -> str | None:
    """Return the canonical key of the weight of the token embedding."""
    names = ("embedding.features.weight", "decoder.embedding.features.weight")
    entries = [key for name in names for key in alternatives(family.trunk.get(name, ""))]
    return next((key for key in entries if key in keys), None)


def _output_key(family: Family, kind: Kind) -> str | None:
    """Return the canonical key of the weight of a language modeling head."""
    table = family.heads.get(kind, {})
    for name in ("head.linear.weight", "head.linear.*", "decoder.head.linear.weight"):
        if kind in ("masked_lm", "causal_lm", "seq2seq") and name in table:
            return canonical_key(alternatives(table[name].replace("*", "weight"))[0], family)
    return None


def check_keys(
    config: Config,
    missing: list[str] | None = None,
    mismatched: list[str] | None = None,
    unexpected: list[str] | None = None,
) -> None:
    """Refuse a checkpoint with keys that do not fit the model.

    Raises:
        ValueError: listing all of them.
    """
    problems = {
        "missing keys": missing,
        "mismatched shapes": mismatched,
        "unexpected keys": unexpected,
    }
    listed = [f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
    if listed:
        raise ValueError(
            f"the weights do not match {config.origin}; {'; '.join(listed)}; check its sizes and "
            "'architectures', or pass another head"
        )
