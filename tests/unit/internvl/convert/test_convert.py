"""Converted checkpoints compute what the original formulas say, and come back byte by byte.

The original is evaluated here from its own key layout with plain tensor operations, written from its published
modelling code (InternVL 2410d1db); nothing of the converter is used for it.
"""

from __future__ import annotations

import json

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from fcotvl.compress.checkpoints import load_processor, load_teacher
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError
from fcotvl.internvl.convert import from_original, to_original
from fcotvl.stages import convert
from tests.support import models
from tests.support.originals import HEADS, KV_HEADS, LLM_WIDTH, VIT_HEADS, write_original

KINDS = ["qwen2", "internlm2"]


def attend(q, k, v, mask=None):
    weights = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf)
    return weights.softmax(dim=-1) @ v


def original_vit(w, pixels):
    """InternViT: fused qkv, layer scale, no final norm; returns tokens after pixel shuffle v2."""
    e = "vision_model.embeddings."
    x = F.conv2d(pixels, w[e + "patch_embedding.weight"], w[e + "patch_embedding.bias"], stride=models.PATCH)
    side = x.shape[-1]
    x = rearrange(x, "t d h w -> t (h w) d")
    x = torch.cat([w[e + "class_embedding"].expand(len(x), -1, -1), x], dim=1)
    x = x + w[e + "position_embedding"]
    for i in range(2):
        p = f"vision_model.encoder.layers.{i}."
        h = F.layer_norm(x, x.shape[-1:], w[p + "norm1.weight"], w[p + "norm1.bias"], 1e-6)
        qkv = h @ w[p + "attn.qkv.weight"].T + w[p + "attn.qkv.bias"]
        q, k, v = rearrange(qkv, "t n (three h d) -> three t h n d", three=3, h=VIT_HEADS)
        h = rearrange(attend(q, k, v), "t h n d -> t n (h d)")
        x = x + w[p + "ls1"] * (h @ w[p + "attn.proj.weight"].T + w[p + "attn.proj.bias"])
        h = F.layer_norm(x, x.shape[-1:], w[p + "norm2.weight"], w[p + "norm2.bias"], 1e-6)
        h = F.gelu(h @ w[p + "mlp.fc1.weight"].T + w[p + "mlp.fc1.bias"])
        x = x + w[p + "ls2"] * (h @ w[p + "mlp.fc2.weight"].T + w[p + "mlp.fc2.bias"])
    return rearrange(x[:, 1:], "t (h r w c) d -> t (h w) (r c d)", r=2, c=2, h=side // 2)


def rms(x, weight, eps):
    return x * (x.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight


def rope(x, theta):
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def qkv_of(w, layer, x, kind):
    """Queries, keys and values by head, keys and values repeated for their group of queries."""
    group, d = HEADS // KV_HEADS, LLM_WIDTH // HEADS
    if kind == "internlm2":
        packed = x @ w[layer + "attention.wqkv.weight"].T
        packed = rearrange(packed, "n (kv gs d) -> n kv gs d", gs=group + 2, d=d)
        q = rearrange(packed[:, :, :group], "n kv g d -> (kv g) n d")
        k, v = (packed[:, :, i].transpose(0, 1) for i in (-2, -1))
    else:
        q, k, v = (
            rearrange(
                x @ w[f"{layer}self_attn.{p}_proj.weight"].T + w[f"{layer}self_attn.{p}_proj.bias"],
                "n (h d) -> h n d",
                d=d,
            )
            for p in "qkv"
        )
    return q, k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)


def original_logits(w, kind, ids, pixels, image_token):
    """Logits of one prompt by the formulas of the original."""
    x = original_vit(w, pixels)
    x = F.layer_norm(x, x.shape[-1:], w["mlp1.0.weight"], w["mlp1.0.bias"])
    x = F.gelu(x @ w["mlp1.1.weight"].T + w["mlp1.1.bias"])
    visual = (x @ w["mlp1.3.weight"].T + w["mlp1.3.bias"]).flatten(0, 1)
    m, internlm = "language_model.model.", kind == "internlm2"
    eps, theta = (1e-5, 1e6) if internlm else (1e-6, 1e6)
    x = w[m + ("tok_embeddings.weight" if internlm else "embed_tokens.weight")][ids]
    x[ids == image_token] = visual
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    names = (
        ("attention_norm", "attention.wo", "ffn_norm", "feed_forward.w1", "w3", "w2")
        if internlm
        else (
            "input_layernorm",
            "self_attn.o_proj",
            "post_attention_layernorm",
            "mlp.gate_proj",
            "up_proj",
            "down_proj",
        )
    )
    norm1, out, norm2, gate, up, down = names
    block = gate.split(".")[0]
    for i in range(3):
        p = f"{m}layers.{i}."
        q, k, v = qkv_of(w, p, rms(x, w[f"{p}{norm1}.weight"], eps), kind)
        h = rearrange(attend(rope(q, theta), rope(k, theta), v, causal), "h n d -> n (h d)")
        x = x + h @ w[f"{p}{out}.weight"].T
        h = rms(x, w[f"{p}{norm2}.weight"], eps)
        h = F.silu(h @ w[f"{p}{gate}.weight"].T) * (h @ w[f"{p}{block}.{up}.weight"].T)
        x = x + h @ w[f"{p}{block}.{down}.weight"].T
    x = rms(x, w[m + "norm.weight"], eps)
    return x @ w["language_model." + ("output.weight" if internlm else "lm_head.weight")].T


@pytest.fixture(scope="module", params=KINDS)
def original(request, tmp_path_factory):
    """Kind, folder and tensors of a small original in several shards."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, write_original(folder, request.param)


@pytest.fixture(scope="module")
def converted(original, tmp_path_factory):
    target = tmp_path_factory.mktemp("converted")
    from_original(original[1], target, shard_bytes=40_000)
    return target


def test_logits_equal_the_original_formulas(original, converted):
    kind, _, weights = original
    model, processor = load_teacher(converted), load_processor(converted)
    inputs = processor([models.picture(112, 56)], processor.render("What is it?"))
    with torch.no_grad():
        ours = model(**inputs).logits[0]
    theirs = original_logits(weights, kind, inputs["input_ids"][0], inputs["pixel_values"], processor.image_token_id)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert theirs.std() > 0.1


def test_the_output_is_sharded_and_indexed(converted):
    shards = sorted(path.name for path in converted.glob("*.safetensors"))
    assert len(shards) > 2
    index = json.loads((converted / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == shards
    assert set(index["weight_map"]) == set().union(*(load_file(converted / s) for s in shards))


def test_back_again_every_tensor_is_byte_equal(original, converted, tmp_path):
    _, folder, weights = original
    to_original(converted, tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    config = json.loads((folder / "config.json").read_text())
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == config


def test_the_prompt_is_the_originals(original, converted):
    kind = original[0]
    prompt = load_processor(converted).render("Hi")
    start = "<s><|im_start|>system\n你是" if kind == "internlm2" else "<|im_start|>system\n你是"
    assert prompt.startswith(start)
    assert prompt.endswith("<|im_end|><|im_start|>user\n<IMG_CONTEXT>\nHi<|im_end|><|im_start|>assistant\n")


def test_dynamic_rope_and_special_ids_come_along(original, converted):
    kind = original[0]
    model, tokenizer = load_teacher(converted), load_processor(converted).tokenizer
    expected = "dynamic" if kind == "internlm2" else "default"
    assert model.config.text_config.rope_parameters["rope_type"] == expected
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def damaged(original, tmp_path, change):
    """The original in one file, after ``change`` of its tensors."""
    _, folder, weights = original
    for path in folder.iterdir():
        if path.suffix != ".safetensors" and "index" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    state = dict(weights)
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


def test_a_missing_tensor_is_named(original, tmp_path):
    folder = damaged(original, tmp_path, lambda state: state.pop("mlp1.3.bias"))
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors, the first is mlp1\.3\.bias"):
        from_original(folder, tmp_path / "out")


def test_an_unknown_tensor_is_named(original, tmp_path):
    folder = damaged(original, tmp_path, lambda state: state.update(extra=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="has unknown 1 tensors, the first is extra"):
        from_original(folder, tmp_path / "out")


def test_a_wrong_shape_is_named(original, tmp_path):
    folder = damaged(original, tmp_path, lambda state: state.update({"mlp1.0.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"mlp1\.0\.bias is \[3\]; its config expects \[64\]"):
        from_original(folder, tmp_path / "out")


def test_a_missing_shard_is_named(original, tmp_path):
    _, folder, _ = original
    shards = sorted(folder.glob("*.safetensors"))
    for path in folder.iterdir():
        if path != shards[-1]:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=f"lacks 1 of {len(shards)} shards.*{shards[-1].name}"):
        from_original(tmp_path, tmp_path / "out")


def test_a_truncated_shard_is_named(original, tmp_path):
    folder = damaged(original, tmp_path, lambda state: None)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        from_original(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ps_version", "v1", "ps_version is 'v1'; InternVL2 has 'v2'"),
        ("template", "phi3-chat", "template 'phi3-chat'; known are Hermes-2"),
        ("llm_config", {"architectures": ["Phi3ForCausalLM"]}, "LLM Phi3ForCausalLM; known are"),
    ],
)
def test_another_kind_of_model_is_refused(original, tmp_path, key, value, message):
    folder = damaged(original, tmp_path, lambda state: None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=message):
        from_original(folder, tmp_path / "out")


def test_a_teacher_that_was_never_an_original_is_refused_in_words(tmp_path):
    models.teacher().save_pretrained(tmp_path / "teacher")
    message = r"teacher is in transformers' layout already \(internvl\).*; give a downloaded OpenGVLab/InternVL2 folder"
    with pytest.raises(CheckpointError, match=message):
        from_original(tmp_path / "teacher", tmp_path / "made")


def test_the_stage_converts_there_and_back(original, tmp_path):
    _, folder, weights = original
    convert.run(Params.model_construct(), source=folder, target=tmp_path / "ours")
    convert.run(Params.model_construct(), source=tmp_path / "ours", target=tmp_path / "theirs")
    back = load_file(tmp_path / "theirs" / "model.safetensors")
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_a_failed_conversion_leaves_no_folder(original, tmp_path):
    folder = damaged(original, tmp_path, lambda state: state.pop("mlp1.3.bias"))
    with pytest.raises(CheckpointError):
        convert.run(Params.model_construct(), source=folder, target=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
