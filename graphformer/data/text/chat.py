"""Chat templates: messages of a conversation to the text that a chat model was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message: TypeAlias = Mapping[str, Any]
"""A message with "role" ("system", "user" or "assistant") and "content"."""
RESERVED = re.compile("[\ufdd0-\ufdef]")
"""Unicode's noncharacters, which no text contains: marks and placeholders."""
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


def render_chat(
    template: str,
    messages: Sequence[Message],
    tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """Return the text of a conversation by a Jinja template, as `transformers` renders it.

    Args:
        template, messages, tokens, add_generation_prompt: of `render_marked`.

    Raises:
        ValueError: when the template is malformed or refuses the messages.
    """
    return render_marked(template, messages, tokens, add_generation_prompt=add_generation_prompt)[0]


def render_marked(
    template: str,
    messages: Sequence[Message],
    tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = False,
) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a conversation, and begin and end of each `{% generation %}` block.

    Templates run in a sandbox and change nothing outside of it.

    Args:
        template: Jinja, as in the tokenizers of `transformers`.
        messages: in their order.
        tokens: special tokens by the name of a variable, such as "bos_token".
        add_generation_prompt: whether the text ends with the beginning of the model's answer.

    Raises:
        ValueError: when the template is malformed or refuses the messages.
    """
    _check_characters(messages)
    try:
        marked = _compile(template).render(
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
    return _without_marks(marked)


def has_generation_marks(template: str) -> bool:
    """Whether a template has `{% generation %}` blocks.

    Raises:
        ValueError: when it is not valid Jinja.
    """
    try:
        parsed = _environment().parse(template)
    except TemplateError as error:
        raise ValueError(
            f"template: got one that is not valid Jinja ({error}), expected a chat template"
        ) from None
    return any(node.name == "_mark" for node in parsed.find_all(nodes.ExtensionAttribute))


@lru_cache(maxsize=32)
def _compile(template: str) -> Template:
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Generation(Extension):
    """The block {% generation %}, the model's part of a text: puts marks around its content."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> nodes.Node:
        """Return a call of `_mark` with the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


def _without_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without the marks, and the parts between them."""
    text, *others = marked.split(_OPEN)
    spans = []
    for part in others:
        inside, _, after = part.partition(_CLOSE)
        spans.append((len(text), len(text) + len(inside)))
        text += inside + after
    return text, spans


def _check_characters(messages: Sequence[Message]) -> None:
    for message in messages:
        found = RESERVED.search(str(message.get("content")))
        if found is not None:
            raise ValueError(
                f"messages: got the character U+{ord(found[0]):04X}, expected text; Unicode "
                "reserves it, remove it"
            )


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson` with the arguments of `transformers`; jinja2's own escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
