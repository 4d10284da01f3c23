"""Chat templates: the one of the tiny teacher and the two of InternVL2, all in Jinja."""

from fcotvl.core.prompts import IMAGE_TOKEN

INTERNVL2_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "  # noqa: RUF001
    "是一个有用无害的人工智能助手。"
)

_CONTENT = (
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '" + IMAGE_TOKEN + "\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
)


def _chat(message: str, *, head: str = "") -> str:
    """A ChatML template with ``head`` before the first turn, each of which goes on with ``message`` after its role."""
    turn = "{{ '<|im_start|>' + message['role'] + '\n' }}" + message
    reply = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    return head + "{% for message in messages %}" + turn + "{% endfor %}" + reply


_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + INTERNVL2_SYSTEM + "<|im_end|>' }}{% endif %}"
)

_OPEN_IF_EMPTY = (
    "{% set said %}" + _CONTENT + "{% endset %}{{ said }}"
    "{% if said or message['role'] == 'system' %}{{ '<|im_end|>' }}{% endif %}"
)
"""InternVL's ``get_prompt`` does not end a turn in which nothing is said."""

CHATML = _chat(_CONTENT + "{{ '<|im_end|>\n' }}")
"""The tiny teacher: one newline after each turn and no system message."""

HERMES2 = _chat(_OPEN_IF_EMPTY, head=_SYSTEM)
"""InternVL2-1B: a Chinese system message and **no** newline between turns.

Source: InternVL 2410d1db, ``conversation.py``. InternVL2.5 has the newline, which changes scores.
"""

INTERNLM2 = "{{ bos_token }}" + HERMES2
"""InternVL2-2B and 8B: ``<s>``, then as Hermes-2."""
