"""Prompts as the original code writes them (InternVL 2410d1db, ``conversation.py``)."""

from __future__ import annotations

import pytest

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.internvl.chat_templates import CHATML, HERMES2, INTERNLM2
from tests.support import models

SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "  # noqa: RUF001
    "是一个有用无害的人工智能助手。"
)
ASKED = "What is the total? Answer the question using a single word or phrase."
GOLDEN = {
    "tiny": (f"<|im_start|>user\n<IMG_CONTEXT>\n{ASKED}<|im_end|>\n<|im_start|>assistant\n", "42<|im_end|>\n"),
    "hermes-2": (
        f"<|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n<IMG_CONTEXT>\n{ASKED}<|im_end|>"
        "<|im_start|>assistant\n",
        "42<|im_end|>",
    ),
    "internlm2-chat": (
        f"<s><|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n<IMG_CONTEXT>\n{ASKED}"
        "<|im_end|><|im_start|>assistant\n",
        "42<|im_end|>",
    ),
}


def processor(template):
    default = models.processor()
    default.tokenizer.bos_token = "<s>"
    return FcotvlProcessor(default.image_processor, default.tokenizer, image_seq_length=2, chat_template=template)


@pytest.mark.parametrize(("name", "template"), [("tiny", CHATML), ("hermes-2", HERMES2), ("internlm2-chat", INTERNLM2)])
def test_prompt_and_reply_equal_the_original(name, template):
    prompt, reply = GOLDEN[name]
    assert processor(template).render(ASKED) == prompt
    assert processor(template).render(ASKED, "42") == prompt + reply


def test_plain_text_content_needs_no_parts():
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    text = processor(CHATML).apply_chat_template(chat, tokenize=False)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"


def test_a_system_message_of_the_user_replaces_the_default():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = processor(HERMES2).apply_chat_template(chat, tokenize=False)
    assert text == "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHi<|im_end|>"


def test_a_turn_in_which_nothing_is_said_is_not_ended():
    """Golden: ``get_prompt`` of separator style MPT writes the role alone."""
    chat = [{"role": "user", "content": ""}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": ""}]
    text = processor(HERMES2).apply_chat_template(chat, tokenize=False)
    system = f"<|im_start|>system\n{SYSTEM}<|im_end|>"
    assert text == f"{system}<|im_start|>user\n<|im_start|>assistant\nHo<|im_end|><|im_start|>user\n"
    prompt, _ = GOLDEN["hermes-2"]
    assert processor(HERMES2).render(ASKED, "") == prompt
    assert processor(INTERNLM2).render(ASKED, "") == f"<s>{prompt}"


def test_an_empty_system_message_is_ended():
    chat = [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]
    text = processor(HERMES2).apply_chat_template(chat, tokenize=False)
    assert text == "<|im_start|>system\n<|im_end|><|im_start|>user\nHi<|im_end|>"


def test_an_empty_reply_trains_nothing():
    ids, labels = processor(HERMES2).encode(ASKED, "", 1)
    assert len(ids) == len(labels)
    assert set(labels) == {-100}
