"""Chat templates that are shipped, and `ChatTemplate`, a template for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphformer.data.text.chat import Message, has_generation_marks, render_marked
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
        self.has_marks = has_generation_marks(self.source)

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
        source = self.source
        for text, placeholder in (placeholders or {}).items():
            source = source.replace(text, placeholder)
        return render_marked(source, messages, special, add_generation_prompt=add_generation_prompt)

    def plain_text(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation without special tokens.

        Raises:
            ValueError: when the template refuses the conversation.
        """
        return self.render(messages, {f"{role}_token": "" for role in ROLES})[0]
