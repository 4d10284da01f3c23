"""Small InternVL2 checkpoints in the layout of the original repositories, with random weights.

With ``replies``, a model gives one of these: embedding and head hold a chain of tokens for each. The random layers add
noise, and so picture and question decide which.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from fcotvl.core.prompts import SPECIAL_TOKENS, TURN_END
from fcotvl.internvl.convert.tokenizers import read_tokenizer
from tests.support.models import PATCH, TILE

VIT_WIDTH, VIT_HEADS, VIT_LAYERS = 16, 2, 2
LLM_WIDTH, HEADS, KV_HEADS, LLM_LAYERS, INNER = 32, 4, 2, 3, 48
TEXT = "the quick brown fox jumps over the lazy dog and what is the total of it all 0123456789 ?! Seen. Answer: Yes"
EXTRA = ["<|plugin|>", *SPECIAL_TOKENS, "<quad>", "</quad>"]
"""Added tokens; the first two take the place of unused pieces of the SentencePiece model."""
LOGIT = 15.0
"""Of the next token of a reply; the others have about 1."""


def sentencepiece_model() -> bytes:
    """BPE with byte fallback, no normalisation and no leading space, like InternLM2's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, TEXT[::-1]] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["[UNUSED_TOKEN_1]", "[UNUSED_TOKEN_2]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def write_original(
    folder: Path, kind: str, *, tile: int = TILE, patch: int = PATCH, replies: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Write a checkpoint with ``kind`` of LLM and return its tensors.

    Args:
        folder: an empty folder.
        kind: ``internlm2`` or ``qwen2``.
        tile: side of a tile in pixels.
        patch: side of a patch in pixels.
        replies: what the model says; no token of them may be followed by two others.
    """
    vocab = _internlm2_tokenizer(folder) if kind == "internlm2" else _qwen2_tokenizer(folder)
    config = {
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "force_image_size": tile,
        "max_dynamic_patch": 12,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internlm2-chat" if kind == "internlm2" else "Hermes-2",
        "vision_config": {
            "hidden_size": VIT_WIDTH,
            "num_hidden_layers": VIT_LAYERS,
            "num_attention_heads": VIT_HEADS,
            "intermediate_size": 32,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "image_size": tile,
            "patch_size": patch,
            "norm_type": "layer_norm",
            "qkv_bias": True,
            "qk_normalization": False,
        },
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM" if kind == "internlm2" else "Qwen2ForCausalLM"],
            "vocab_size": vocab,
            "hidden_size": LLM_WIDTH,
            "num_hidden_layers": LLM_LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "intermediate_size": INNER,
            "hidden_act": "silu",
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-5 if kind == "internlm2" else 1e-6,
            "rope_theta": 1000000,
            "rope_scaling": {"type": "dynamic", "factor": 2.0} if kind == "internlm2" else None,
            "bos_token_id": 1,
            "pad_token_id": 2,
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    tensors = _tensors({**_vision_shapes(tile, patch), **_llm_shapes(kind, vocab)})
    if replies:
        _teach(tensors, read_tokenizer(folder, ""), replies)
    _write_shards(folder, tensors)
    return tensors


def _teach(tensors: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast, replies: Sequence[str]) -> None:
    """Give each token of a reply, and the line's end before it, a channel from which the head reads the next token.

    Their embeddings are long, so that the noise of three layers turns such a state but little.
    """
    embedding, head = (
        next(tensor for name, tensor in tensors.items() if name.endswith(ends))
        for ends in (("tok_embeddings.weight", "embed_tokens.weight"), ("output.weight", "lm_head.weight"))
    )
    start, end = tokenizer.encode("\n")[-1], tokenizer.convert_tokens_to_ids(TURN_END)
    pairs = {pair for reply in replies for pair in pairwise([start, *tokenizer.encode(reply), end])}
    channels = {token: channel for channel, token in enumerate(sorted({token for token, _ in pairs}))}
    for token, channel in channels.items():
        embedding[token] = 60 * torch.eye(LLM_WIDTH)[channel]
    for token, following in pairs:
        head[following, channels[token]] = LOGIT / LLM_WIDTH**0.5


def _tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * 0.2 + ("norm" in name and "bias" not in name)
        for name, shape in shapes.items()
    }


def _vision_shapes(tile: int, patch: int) -> dict[str, tuple[int, ...]]:
    d, wide, patches = VIT_WIDTH, 4 * VIT_WIDTH, (tile // patch) ** 2
    e = "vision_model.embeddings."
    shapes: dict[str, tuple[int, ...]] = {
        e + "class_embedding": (1, 1, d),
        e + "position_embedding": (1, patches + 1, d),
        e + "patch_embedding.weight": (d, 3, patch, patch),
        e + "patch_embedding.bias": (d,),
        "mlp1.0.weight": (wide,),
        "mlp1.0.bias": (wide,),
        "mlp1.1.weight": (LLM_WIDTH, wide),
        "mlp1.1.bias": (LLM_WIDTH,),
        "mlp1.3.weight": (LLM_WIDTH, LLM_WIDTH),
        "mlp1.3.bias": (LLM_WIDTH,),
    }
    linear = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (32, d), "mlp.fc2": (d, 32)}
    for i in range(VIT_LAYERS):
        p = f"vision_model.encoder.layers.{i}."
        shapes |= {p + "ls1": (d,), p + "ls2": (d,)}
        shapes |= {f"{p}norm{n}.{part}": (d,) for n in (1, 2) for part in ("weight", "bias")}
        shapes |= {f"{p}{name}.weight": size for name, size in linear.items()}
        shapes |= {f"{p}{name}.bias": size[:1] for name, size in linear.items()}
    return shapes


def _llm_shapes(kind: str, vocab: int) -> dict[str, tuple[int, ...]]:
    m, w, kv = "language_model.model.", LLM_WIDTH, KV_HEADS * LLM_WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {m + "norm.weight": (w,)}
    if kind == "internlm2":
        shapes |= {m + "tok_embeddings.weight": (vocab, w), "language_model.output.weight": (vocab, w)}
        layer = {
            "attention.wqkv": (w + 2 * kv, w),
            "attention.wo": (w, w),
            "feed_forward.w1": (INNER, w),
            "feed_forward.w3": (INNER, w),
            "feed_forward.w2": (w, INNER),
            "attention_norm": (w,),
            "ffn_norm": (w,),
        }
    else:
        shapes |= {m + "embed_tokens.weight": (vocab, w), "language_model.lm_head.weight": (vocab, w)}
        layer = {
            "self_attn.q_proj": (w, w),
            "self_attn.k_proj": (kv, w),
            "self_attn.v_proj": (kv, w),
            "self_attn.o_proj": (w, w),
            "mlp.gate_proj": (INNER, w),
            "mlp.up_proj": (INNER, w),
            "mlp.down_proj": (w, INNER),
            "input_layernorm": (w,),
            "post_attention_layernorm": (w,),
        }
    for i in range(LLM_LAYERS):
        shapes |= {f"{m}layers.{i}.{name}.weight": size for name, size in layer.items()}
        if kind == "qwen2":
            biased = {x: layer[f"self_attn.{x}_proj"][:1] for x in "qkv"}
            shapes |= {f"{m}layers.{i}.self_attn.{x}_proj.bias": size for x, size in biased.items()}
    return shapes


def _write_shards(folder: Path, tensors: dict[str, Tensor], count: int = 3) -> None:
    """Deal the tensors to the shards in turn, so that every layer is spread over several."""
    weights = {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = dict(list(tensors.items())[number::count])
        save_file(part, folder / name, metadata={"format": "pt"})
        weights |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _internlm2_tokenizer(folder: Path) -> int:
    """Write ``tokenizer.model`` and ``tokenizer_config.json``; returns the vocabulary's size."""
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    unused = [pieces.piece_to_id(f"[UNUSED_TOKEN_{i}]") for i in (1, 2)]
    ids = [*unused, *range(len(pieces), len(pieces) + len(EXTRA) - len(unused))]
    added = {str(i): {"content": token} for i, token in zip(ids, EXTRA, strict=True)}
    settings = {"added_tokens_decoder": added, "tokenizer_class": "InternLM2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return ids[-1] + 1


def _qwen2_tokenizer(folder: Path) -> int:
    """Write ``vocab.json``, ``merges.txt`` and their config; returns the vocabulary's size."""
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator([TEXT], BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    core.model.save(str(folder))
    size = core.get_vocab_size()
    added = {str(size + i): {"content": token, "special": True} for i, token in enumerate(["<|endoftext|>", *EXTRA])}
    settings = {
        "added_tokens_decoder": added,
        "tokenizer_class": "Qwen2Tokenizer",
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return size + len(added)
