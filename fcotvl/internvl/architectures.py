"""The true shapes of the models that scales name, as configs: enough to build them without weights.

Sources: InternVL2 model cards and configs (OpenGVLab/InternVL2-{1B,2B,8B}); algorithms of the LLMs:
Qwen2-0.5B-Instruct, InternLM2-chat-1.8B and InternLM2.5-chat-7B, the last two in Llama's layout.
"""

from __future__ import annotations

from typing import Any

from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig, Qwen2Config

from fcotvl.core.errors import ParamsError
from fcotvl.toy.model import build_tokenizer, tiny_config

_INTERNLM2: dict[str, Any] = {
    "vocab_size": 92553,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0},
    "attention_bias": False,
    "tie_word_embeddings": False,
}


def config(layout: str) -> InternVLConfig:
    """The teacher's config under ``layout``: ``tiny``, ``internvl2-1b``, ``-2b`` or ``-8b``.

    The tiny one has the smallest vocabulary (bytes alone): its true one comes with its tokenizer.

    Raises:
        ParamsError: ``layout`` is unknown.
    """
    if layout == "tiny":
        return tiny_config(build_tokenizer([]))
    if layout not in _TEXT:
        raise ParamsError(f"no layout {layout!r}; there are tiny, {', '.join(_TEXT)}")
    vision = InternVLVisionConfig(  # InternViT-300M-448px
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        attention_bias=True,
        image_size=(448, 448),
        patch_size=(14, 14),
        layer_norm_eps=1e-6,
    )
    text = _TEXT[layout]()
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=text.vocab_size - 1,
        image_seq_length=256,
        downsample_ratio=0.5,
        tie_word_embeddings=text.tie_word_embeddings,
    )


def _qwen2_half_billion() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=151655,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False,
    )


def _internlm2_two_billion() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=8,
        **_INTERNLM2,
    )


def _internlm2_seven_billion() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        **_INTERNLM2,
    )


_TEXT = {
    "internvl2-1b": _qwen2_half_billion,
    "internvl2-2b": _internlm2_two_billion,
    "internvl2-8b": _internlm2_seven_billion,
}
