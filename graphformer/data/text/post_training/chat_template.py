"""`ChatTemplate`: conversations to text by Jinja templates, as in Hugging Face tokenizers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import TypedDict

from graphformer.data.text.hf_tokenizer import ROLES

SHIPPED = {
    "chatml": (
        "{% for message in messages %}"
        "{% if message.role == 'assistant' %}"
        "{{ '<|im_start|>assistant\n' }}"
        "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
        "{% else %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "turns": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'assistant' %}"
        "{{ 'Assistant:' }}"
        "{% generation %}{{ ' ' + message.content + eos_token }}{% endgeneration %}"
        "{{ '\n\n' if not loop.last }}"
        "{% else %}{{ message.role.capitalize() + ': ' + message.content + '\n\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "plain": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message.role == 'assistant' %}"
        "{% generation %}{{ message.content + eos_token }}{% endgeneration %}"
        "{% else %}{{ message.content }}{% endif %}{% endfor %}"
    ),
}
"""Templates by name: ChatML; "User: ..." and "Assistant: ..."; the texts alone."""
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_RESERVED = re.compile("[\ufdd0-\ufdef]")  # Unicode's noncharacters, which no text contains


class Message(TypedDict):
    """A turn of a conversation."""

    role: str
    content: str


class ChatTemplate:
    """A Jinja template that writes a conversation, with marks around what the model generates.

    `{% generation %} ... {% endgeneration %}` marks the tokens that have a loss, as in
    `transformers`.

    Args:
        source: the template, or the name of one in `SHIPPED`.

    Raises:
        ValueError: when it is not a valid template.
    """

    def __init__(self, source: str) -> None:
        self.source = SHIPPED.get(source, source)
        self._environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self._environment.filters["tojson"] = _to_json
        self._environment.globals |= {
            "raise_exception": _raise,
            "strftime_now": lambda form: datetime.now().strftime(form),
        }
        try:
            parsed = self._environment.parse(self.source)
        except TemplateError as error:
            raise ValueError(
                f"template: got one that is not valid Jinja ({error}), expected a chat template "
                f"or one of {', '.join(SHIPPED)}"
            ) from None
        self._templates: dict[str, Template] = {}
        marks = parsed.find_all(nodes.ExtensionAttribute)
        self.has_marks = any(mark.name == "_mark" for mark in marks)

    def render(
        self,
        messages: Sequence[Message],
        special: Mapping[str, str],
        *,
        placeholders: Mapping[str, str] | None = None,
        add_generation_prompt: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of a conversation, and begin and end of each marked part in it.

        Args:
            messages: the turns.
            special: text of "bos_token", "eos_token" and so on, for the template.
            placeholders: texts in the template to replace, not in messages, by others.
            add_generation_prompt: whether the text ends where an answer begins.

        Raises:
            ValueError: when the template refuses the conversation.
        """
        _check_characters(messages)
        try:
            marked = self._compiled(placeholders or {}).render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **special,
            )
        except TemplateError as error:
            raise ValueError(
                f"template: got a conversation that it refuses ({error}), expected turns as it "
                "requires them; change the conversation or the template"
            ) from None
        return _without_marks(marked)

    def _compiled(self, placeholders: Mapping[str, str]) -> Template:
        """Return the template with its texts replaced, compiled once."""
        source = self.source
        for text, placeholder in placeholders.items():
            source = source.replace(text, placeholder)
        if source not in self._templates:
            self._templates[source] = self._environment.from_string(source)
        return self._templates[source]

    def plain_text(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation without special tokens.

        Raises:
            ValueError: when the template refuses the conversation.
        """
        return self.render(messages, {f"{role}_token": "" for role in ROLES})[0]


def read_chat_template(folder: str | os.PathLike[str]) -> str | None:
    """Return the chat template of a Hugging Face folder, or None.

    Raises:
        ValueError: when tokenizer_config.json is not valid JSON.
    """
    file = Path(folder) / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    file = Path(folder) / "tokenizer_config.json"
    if not file.is_file():
        return None
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8")).get("chat_template")
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from None
    if isinstance(found, list):  # several with names
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found


class _Generation(Extension):
    """The tag `generation`: puts reserved characters around its body."""

    tags: ClassVar = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the body as an argument of `_mark`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_mark")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


def _without_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without the reserved characters, and the parts between them."""
    first, *others = marked.split(_OPEN)
    text, spans = first, []
    for part in others:
        inside, _, after = part.partition(_CLOSE)
        spans.append((len(text), len(text) + len(inside)))
        text += inside + after
    return text, spans


def _check_characters(messages: Sequence[Message]) -> None:
    for message in messages:
        reserved = _RESERVED.search(message["content"])
        if reserved is not None:
            raise ValueError(
                f"messages: got the character U+{ord(reserved[0]):04X}, expected text; Unicode "
                "reserves it, remove it"
            )


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)  # jinja's own escapes HTML


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
