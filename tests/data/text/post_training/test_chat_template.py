"""Chat templates: marks, shipped templates, errors."""

from __future__ import annotations

import pytest
from helpers.chat import ANSWER, QUESTION

from graphformer.data.text.post_training.chat_template import SHIPPED, ChatTemplate

SPECIAL = {"bos_token": "<b>", "eos_token": "<e>"}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_templates_mark_the_answers_with_their_end(name: str) -> None:
    template = ChatTemplate(name)
    text, spans = template.render([QUESTION, ANSWER, QUESTION, ANSWER], SPECIAL)
    end = "<|im_end|>" if name == "chatml" else "<e>"
    assert [text[a:b].strip() for a, b in spans] == [f"It is four.{end}"] * 2
    assert template.has_marks
    prompt, none = template.render([QUESTION], SPECIAL, add_generation_prompt=True)
    assert none == []
    assert text.startswith(prompt)
    assert len(prompt) == spans[0][0]


def test_plain_text_has_no_special_tokens() -> None:
    text = ChatTemplate("turns").plain_text([QUESTION, ANSWER])
    assert text == "User: two plus two?\n\nAssistant: It is four."


def test_jinja_as_in_transformers() -> None:
    source = (
        "{% for m in messages %}\n    {%- if loop.index > 2 %}{% break %}{% endif %}\n"
        "    {{ m | tojson }}\n{% endfor %}"
    )
    template = ChatTemplate(source)
    assert not template.has_marks
    text, _ = template.render([{"role": "user", "content": "é<"}], {})
    assert '{"role": "user", "content": "é<"}' in text
    assert not ChatTemplate(
        "{% macro f() %}{% endmacro %}{% call f() %}generation{% endcall %}"
    ).has_marks


def test_errors() -> None:
    with pytest.raises(ValueError, match="template: got one that is not valid Jinja"):
        ChatTemplate("{% for %}")
    refusing = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match=r"refuses them \(roles must alternate\)"):
        refusing.render([QUESTION], {})
    with pytest.raises(ValueError, match=r"messages: got the character U\+FDD0"):
        ChatTemplate("plain").render([{"role": "user", "content": "a\ufdd0"}], SPECIAL)
    with pytest.raises(ValueError, match="refuses"):  # sandboxed
        ChatTemplate("{{ messages.__class__.__mro__ }}{{ messages.append(1) }}").render(
            [QUESTION], {}
        )
