"""Chat templates: the texts are those of `transformers`, and templates change nothing outside."""

from __future__ import annotations

import pytest

from graphformer.data.text.chat import render_chat

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How <many> é?"},
    {"role": "assistant", "content": "Two."},
]
TEMPLATES = {
    "plain": "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson(indent=2) }}{% endfor %}",
    "ascii": "{% for m in messages %}{{ m | tojson(ensure_ascii=True) }}{% endfor %}",
    "break": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role }}"
    "{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}>{% endif %}",
    "blocks": "{% if tools %}tools{% endif %}\n    {% set n = namespace(i=0) %}\n"
    "    {%- for m in messages %}\n        {% set n.i = n.i + 1 %}\n{{ n.i }}\n    {% endfor %}\n",
}


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_equal_to_transformers(name: str, prompt: bool):
    utils = pytest.importorskip(
        "transformers.utils.chat_template_utils", reason="needs the extra `hf`"
    )
    found = render_chat(TEMPLATES[name], MESSAGES, TOKENS, add_generation_prompt=prompt)
    rendered, _ = utils.render_jinja_template(
        [MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=prompt, **TOKENS
    )
    assert found == rendered[0]


def test_a_refusal_is_one_error():
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ValueError, match=r"messages: the chat template .*roles must alternate"):
        render_chat(template, MESSAGES, TOKENS)


@pytest.mark.parametrize(
    "template",
    ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{% for m in %}"],
)
def test_templates_run_in_a_sandbox(template: str):
    before = list(MESSAGES)
    with pytest.raises(ValueError, match="messages: the chat template"):
        render_chat(template, MESSAGES, TOKENS)
    assert before == MESSAGES
