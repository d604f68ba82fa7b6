"""Defaults of `generate` that come from a checkpoint."""

from __future__ import annotations

import warnings
from typing import Any, cast

from graphformer.models.generation.generate import GenerateOptions

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that matter for sampling only."""


def with_defaults(network: Any, options: GenerateOptions) -> GenerateOptions:
    """Return the options of a call of `generate`, with the defaults of the network's checkpoint.

    The first call warns of settings of the checkpoint that neither apply nor are in the options.

    Args:
        network: its `generation_config` are the defaults, `unused_generation_settings` the
            settings that do not apply; a network may lack both.
        options: of the call.
    """
    unused: dict[str, Any] = getattr(network, "unused_generation_settings", {})
    chosen = {*options, *(SAMPLING if "temperature" in options or "num_beams" in options else ())}
    left = {name: value for name, value in unused.items() if name not in chosen}
    if left:
        listed = ", ".join(f"{name}={value!r}" for name, value in left.items())
        known = [f"{name}=" for name in left if name in GenerateOptions.__annotations__]
        advice = f"pass {', '.join(known)} to generate to choose" if known else "expected none"
        warnings.warn(
            f"generation settings: got {listed} in the checkpoint, which generate does not apply; "
            f"{advice}",
            stacklevel=2,
        )
        network.unused_generation_settings = {}
    return cast(GenerateOptions, {**getattr(network, "generation_config", {}), **options})
