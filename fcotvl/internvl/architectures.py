"""The true shapes of the models that scales name, as configs: enough to build them without weights.

Sources: InternVL2 model cards and configs (OpenGVLab/InternVL2-{1B,2B,8B}). Their LLMs are Qwen2-0.5B-Instruct,
InternLM2-chat-1.8B and InternLM2.5-chat-7B, the last two in Llama's layout.
"""

from typing import Any

from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig, PreTrainedConfig, Qwen2Config

from fcotvl.core.errors import ParamsError
from fcotvl.core.geometry import PATCH_SIZE, SHUFFLE_FACTOR, TILE_SIZES, tokens_per_tile
from fcotvl.core.prompts import IMAGE_TOKEN, SPECIAL_TOKENS, TURN_END


def _sizes(*, width: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    return more | {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _llm(*, kv_heads: int, **sizes: int) -> dict[str, Any]:
    return _sizes(**sizes, num_key_value_heads=kv_heads, max_position_embeddings=32768, tie_word_embeddings=False)


_INTERNVIT_300M = _sizes(width=1024, inner=4096, layers=24, heads=16, layer_norm_eps=1e-6)
_QWEN2 = {"vocab_size": 151655, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
_INTERNLM2 = {
    "vocab_size": 92553,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0},
    "attention_bias": False,
}
_1B = _QWEN2 | _llm(width=896, inner=4864, layers=24, heads=14, kv_heads=2)
_2B = _INTERNLM2 | _llm(width=2048, inner=8192, layers=24, heads=16, kv_heads=8)
_8B = _INTERNLM2 | _llm(width=4096, inner=14336, layers=32, heads=32, kv_heads=8)
_LLMS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "internvl2-1b": (Qwen2Config, _1B),
    "internvl2-2b": (LlamaConfig, _2B),
    "internvl2-8b": (LlamaConfig, _8B),
}


def teacher_config(architecture: str) -> InternVLConfig:
    """Return the config of teacher ``architecture``, one of ``core.geometry.TILE_SIZES``.

    The tiny one has its smallest vocabulary (bytes only); the true one comes with its tokenizer.

    Raises:
        ParamsError: ``architecture`` is unknown.
    """
    if architecture == "tiny":
        ids = {token: number for number, token in enumerate(SPECIAL_TOKENS, start=1)}
        return tiny_config(
            vocab_size=256 + 1 + len(ids), image_token_id=ids[IMAGE_TOKEN], end_token_id=ids[TURN_END], pad_token_id=0
        )
    if architecture not in _LLMS:
        known = ", ".join(TILE_SIZES)
        raise ParamsError(f"no architecture {architecture!r}; choose one of {known}")
    config_class, settings = _LLMS[architecture]
    text = config_class(**settings)
    return _internvl(architecture, _INTERNVIT_300M, text, text.vocab_size - 1)


def tiny_config(*, vocab_size: int, image_token_id: int, end_token_id: int, pad_token_id: int) -> InternVLConfig:
    """Return the config of the tiny model: tiles of 64 visual tokens, about 3 M parameters.

    Args:
        vocab_size: number of tokens that its tokenizer knows.
        image_token_id: id of ``<IMG_CONTEXT>``.
        end_token_id: id of ``<|im_end|>``.
        pad_token_id: id of the padding token.
    """
    vision = _sizes(width=128, inner=512, layers=6, heads=4, layer_scale_init_value=1.0)
    text = Qwen2Config(
        **_sizes(width=160, inner=432, layers=4, heads=5, num_key_value_heads=5),
        vocab_size=vocab_size,
        max_position_embeddings=4096,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_token_id,
        pad_token_id=pad_token_id,
    )
    return _internvl("tiny", vision, text, image_token_id)


def _internvl(architecture: str, vision: dict[str, Any], text: PreTrainedConfig, image_token_id: int) -> InternVLConfig:
    size = TILE_SIZES[architecture]
    vision_config = InternVLVisionConfig(
        **vision, attention_bias=True, image_size=(size, size), patch_size=(PATCH_SIZE, PATCH_SIZE)
    )
    return InternVLConfig(
        vision_config=vision_config,
        text_config=text,
        image_token_id=image_token_id,
        image_seq_length=tokens_per_tile(size),
        downsample_ratio=1 / SHUFFLE_FACTOR,
        tie_word_embeddings=text.tie_word_embeddings,
    )
