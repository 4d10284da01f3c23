"""The config of an original InternVL2 checkpoint in transformers' terms."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig, PreTrainedConfig, Qwen2Config

from fcotvl.compress.config import FcotvlConfig, full_tokens
from fcotvl.core.errors import CheckpointError
from fcotvl.internvl.chat_templates import HERMES2, INTERNLM2

TEMPLATES = {"Hermes-2": HERMES2, "internlm2-chat": INTERNLM2}
"""Chat templates by their names in the original's config."""
INTERNLM = "InternLM2ForCausalLM"
LLMS: dict[str, type[PreTrainedConfig]] = {"Qwen2ForCausalLM": Qwen2Config, INTERNLM: LlamaConfig}
TRANSFORMERS = (InternVLConfig.model_type, FcotvlConfig.model_type)
"""Model types of teachers and students in transformers' layout; the original's is ``internvl_chat``."""
_SHARED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
_VISION = {name: name for name in (*_SHARED, "layer_norm_eps", "patch_size", "norm_type")} | {
    "attention_bias": "qkv_bias",
    "use_qk_norm": "qk_normalization",
}
"""Our keys of the ViT's config, and the original's."""
_TEXT = (*_SHARED, "vocab_size", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")


def read_original(folder: Path) -> dict[str, Any]:
    """Read the original's ``config.json``.

    Raises:
        CheckpointError: it is missing, its model is not a supported InternVL2, or it is in transformers' layout.
    """
    path = folder / "config.json"
    try:
        original: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a config of InternVL2: {error}; download it again") from error
    if (layout := original.get("model_type")) in TRANSFORMERS:
        raise CheckpointError(
            f"{folder} is in transformers' layout already ({layout}) and was not converted from an original, so there "
            "is none to go back to; give a downloaded OpenGVLab/InternVL2 folder, or one that convert wrote"
        )
    for key, expected in (("ps_version", "v2"), ("select_layer", -1)):
        if original.get(key) != expected:
            found = original.get(key)
            raise CheckpointError(f"{path}: {key} is {found!r}; InternVL2 has {expected!r}")
    if llm_of(original) not in LLMS:
        raise CheckpointError(f"{path}: LLM {llm_of(original)}; known are {', '.join(LLMS)}")
    if original.get("template") not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise CheckpointError(f"{path}: template {original.get('template')!r}; known are {known}")
    return original


def llm_of(original: Mapping[str, Any]) -> str:
    """Name of the LLM's architecture in the original's config."""
    architectures = original.get("llm_config", {}).get("architectures") or ["none"]
    return str(architectures[0])


def to_transformers(
    original: Mapping[str, Any], *, image_token_id: int, end_token_id: int, tied: bool
) -> InternVLConfig:
    """Return the same model's config in transformers' layout.

    Args:
        original: its ``config.json``.
        image_token_id: id of ``<IMG_CONTEXT>`` in its tokenizer.
        end_token_id: id of ``<|im_end|>``.
        tied: whether the head shares the embedding's weights.
    """
    theirs, llm = original["vision_config"], original["llm_config"]
    size = original["force_image_size"]
    vision = InternVLVisionConfig(image_size=(size, size), **{ours: theirs[name] for ours, name in _VISION.items()})
    scaling = dict(llm.get("rope_scaling") or {})
    rope = {
        "rope_type": scaling.pop("type", scaling.pop("rope_type", "default")),
        "rope_theta": float(llm["rope_theta"]),
        **scaling,
    }
    text = LLMS[llm_of(original)](
        **{name: llm[name] for name in _TEXT},
        rope_parameters=rope,
        tie_word_embeddings=tied,
        bos_token_id=llm.get("bos_token_id"),
        eos_token_id=end_token_id,
        pad_token_id=llm.get("pad_token_id"),
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token_id,
        downsample_ratio=original["downsample_ratio"],
        tie_word_embeddings=tied,
    )
    config.image_seq_length = full_tokens(config)
    return config
