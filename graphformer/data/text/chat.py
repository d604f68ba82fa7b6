"""Chat templates: messages of a conversation to the text that a chat model was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message: TypeAlias = Mapping[str, Any]
"""A message with "role" ("system", "user" or "assistant") and "content"."""


def render_chat(
    template: str,
    messages: Sequence[Message],
    tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """Return the text of a conversation by a Jinja template, as `transformers` renders it.

    Templates run in a sandbox and change nothing outside of it.

    Args:
        template: of the checkpoint.
        messages: in their order.
        tokens: special tokens by the name of a variable, such as "bos_token".
        add_generation_prompt: whether the text ends with the beginning of the model's answer.

    Raises:
        ValueError: when the template is malformed or refuses the messages.
    """
    try:
        return _compile(template).render(
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **tokens,
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise ValueError(
            f"messages: the chat template of the checkpoint refuses them ({error}); change their "
            "roles or order"
        ) from None


@lru_cache(maxsize=32)
def _compile(template: str) -> Any:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


class _Generation(Extension):
    """The block {% generation %}, which marks the model's part of a text; its content is kept."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes of the block without the marks around them."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)  # jinja2's own escapes HTML


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
