"""Students are made of teachers, and only what was trained is kept on disk."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import (
    HEADER,
    StudentHeader,
    load_model,
    load_processor,
    load_student,
    load_teacher,
    load_tensors,
    make_student,
    processor_for,
    read_student_tensors,
    save_student_tensors,
    write_student_tensors,
)
from fcotvl.compress.config import FcotvlConfig, visual_tokens
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.core.errors import CheckpointError
from tests.support import models


def logits(model):
    processor = processor_for(models.processor(), model.config)
    inputs = processor([models.picture(112, 56)], processor.render("What?"))
    with torch.no_grad():
        return model(**inputs).logits


def trained_student(teacher, **settings):
    """A student whose compressor and projector have moved."""
    student = make_student(teacher, compressor="cnn", ratio=0.5, **settings)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_("compressor" in name or "projector" in name)
        if parameter.requires_grad:
            parameter.data += 0.1
    return student


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_compressor_is_missing_from_a_teachers_weights(tmp_path, tied):
    """The trap: without the registered key mapping, the LLM would be left random in silence."""
    teacher = models.teacher(tied=tied)
    teacher.save_pretrained(tmp_path)
    config = FcotvlConfig.from_teacher(teacher.config, compressor="cnn", ratio=0.5)
    student, report = FcotvlForConditionalGeneration.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert set(report["missing_keys"]) == {"model.compressor.weight", "model.compressor.bias"}
    assert not report["unexpected_keys"]
    torch.testing.assert_close(logits(student), logits(make_student(teacher, compressor="cnn", ratio=0.5)))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_student_has_the_teachers_weights_and_ties(tied, share):
    teacher = models.teacher(tied=tied)
    student = make_student(teacher, compressor="pool", ratio=0.5, share_frozen=share)
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    embedding = student.get_input_embeddings().weight
    assert (student.lm_head.weight is embedding) == tied
    assert (embedding is teacher.get_input_embeddings().weight) == share
    assert student.config.image_seq_length == visual_tokens(student.config) == models.TOKENS // 2


def test_training_an_unshared_student_leaves_the_teacher_alone():
    teacher = models.teacher()
    before = logits(teacher)
    for parameter in make_student(teacher, compressor="cnn", ratio=0.5).parameters():
        parameter.data += 1
    assert torch.equal(logits(teacher), before)


def test_the_seed_decides_the_compressors_start_and_leaves_the_callers_generator_alone():
    teacher = models.teacher()
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, again, other = (
        make_student(teacher, compressor="cnn-default", ratio=0.5, seed=seed).model.compressor for seed in (1, 1, 2)
    )
    assert torch.rand(1) == expected
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_a_checkpoint_holds_the_trained_tensors_alone_and_restores_the_student(tmp_path):
    teacher = models.teacher()
    student = trained_student(teacher, positions="spread")
    save_student_tensors(student, tmp_path / "trained.safetensors", stage="distill")
    with safe_open(tmp_path / "trained.safetensors", framework="pt") as file:
        assert all("compressor" in name or "projector" in name for name in file.keys())  # noqa: SIM118
    restored = load_student(teacher, [tmp_path / "trained.safetensors"])
    assert torch.equal(logits(restored), logits(student))
    _, header = read_student_tensors(tmp_path / "trained.safetensors")
    assert header == StudentHeader("distill", "cnn", 0.5, {}, "spread")


def test_a_checkpoint_of_the_whole_llm_restores_a_tied_head(tmp_path):
    teacher = models.teacher(tied=True)
    student = make_student(teacher, compressor="cnn", ratio=0.5)
    for parameter in student.parameters():
        parameter.data += 0.05
    save_student_tensors(student, tmp_path / "all.safetensors", stage="sft")
    restored = load_student(teacher, [tmp_path / "all.safetensors"])
    assert torch.equal(logits(restored), logits(student))
    assert restored.lm_head.weight is restored.get_input_embeddings().weight


def test_later_files_go_over_earlier_ones(tmp_path):
    teacher = models.teacher()
    student = trained_student(teacher)
    save_student_tensors(student, tmp_path / "distill.safetensors", stage="distill")
    student.lm_head.weight.data += 1
    embedding = "model.language_model.embed_tokens.weight"
    save_student_tensors(student, tmp_path / "sft.safetensors", stage="sft", names=[embedding])
    files = [tmp_path / "distill.safetensors", tmp_path / "sft.safetensors"]
    assert torch.equal(logits(load_student(teacher, files)), logits(student))


def test_files_of_two_students_are_refused(tmp_path):
    for ratio in (0.5, 0.75):
        header = StudentHeader("distill", "cnn", ratio)
        write_student_tensors(tmp_path / f"{ratio}.safetensors", {}, header)
    with pytest.raises(CheckpointError, match=r"is of cnn at 0\.75, but .* is of cnn at 0\.5"):
        load_student(models.teacher(), [tmp_path / "0.5.safetensors", tmp_path / "0.75.safetensors"])


def test_a_checkpoint_restores_the_threshold_with_the_rates(tmp_path):
    teacher = models.teacher()
    options = models.OPTIONS["adaptive"]
    student = make_student(teacher, compressor="adaptive", ratio=0.5, options=options)
    for rate in student.model.compressor.rates:
        rate.weight.data += 0.1
    save_student_tensors(student, tmp_path / "trained.safetensors", stage="distill")
    restored = load_student(teacher, [tmp_path / "trained.safetensors"])
    assert restored.config.compressor_options == {"threshold": models.THRESHOLD}
    assert torch.equal(logits(restored), logits(student))


def test_files_that_count_positions_differently_are_refused(tmp_path):
    for positions in ("consecutive", "spread"):
        header = StudentHeader("distill", "cnn", 0.5, {}, positions)
        write_student_tensors(tmp_path / f"{positions}.safetensors", {}, header)
    files = [tmp_path / "consecutive.safetensors", tmp_path / "spread.safetensors"]
    with pytest.raises(CheckpointError, match=r"is of cnn at 0\.5, positions spread, but .* is of cnn at 0\.5; give"):
        load_student(models.teacher(), files)


def test_files_of_two_thresholds_are_refused(tmp_path):
    for threshold in (0.1, 0.2):
        header = StudentHeader("distill", "adaptive", 0.5, {"threshold": threshold})
        write_student_tensors(tmp_path / f"{threshold}.safetensors", {}, header)
    files = [tmp_path / "0.1.safetensors", tmp_path / "0.2.safetensors"]
    with pytest.raises(CheckpointError, match=r"is of adaptive at 0\.5 with .*0\.2.* give files"):
        load_student(models.teacher(), files)


def test_a_student_that_leaves_the_choice_needs_one():
    teacher = models.teacher()
    options = models.OPTIONS["adaptive"]
    student = make_student(teacher, compressor="adaptive", ratio=0.5, options=options)
    inputs = processor_for(models.processor(), student.config)([models.picture()], "<IMG_CONTEXT>")
    del inputs["tile_tokens"]
    with pytest.raises(ValueError, match="tile_tokens is missing; use the processor"):
        student(**inputs)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"model.unknown": torch.zeros(1)}, r"the model has no parameter model\.unknown"),
        ({"lm_head.weight": torch.zeros(2, 2)}, r"lm_head.weight is \[2, 2\], but the model has"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path, tensors, message):
    path = tmp_path / "x.safetensors"
    write_student_tensors(path, tensors, StudentHeader("sft", "cnn", 0.5))
    with pytest.raises(CheckpointError, match=message):
        load_student(models.teacher(tied=False), [path])


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match=r"x\.safetensors cannot be read"):
        read_student_tensors(path)
    with pytest.raises(CheckpointError, match=r"missing\.safetensors cannot be read"):
        read_student_tensors(tmp_path / "missing.safetensors")


def test_a_teacher_comes_back_from_disk_with_its_processor(tmp_path):
    teacher = models.teacher()
    teacher.save_pretrained(tmp_path)
    models.processor().save_pretrained(tmp_path)
    assert torch.equal(logits(load_teacher(tmp_path)), logits(teacher))
    assert load_processor(tmp_path).image_seq_length == models.TOKENS


def test_a_teacher_that_lacks_a_tensor_is_refused(tmp_path):
    teacher = models.teacher()
    state = teacher.state_dict()
    del state["model.vision_tower.embeddings.cls_token"]
    teacher.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match=r"1 missing keys, the first is .*cls_token"):
        load_teacher(tmp_path)


def test_an_exported_student_that_lacks_a_tensor_is_refused(tmp_path):
    student = trained_student(models.teacher())
    state = student.state_dict()
    del state[next(name for name in state if "compressor" in name)]
    student.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match=r"1 missing keys, the first is model\.compressor.*export the student"):
        load_model(tmp_path)


def test_a_file_without_the_compressor_is_refused(tmp_path):
    teacher, path = models.teacher(), tmp_path / "part.safetensors"
    tensors = {name: p.data for name, p in trained_student(teacher).named_parameters() if "projector" in name}
    write_student_tensors(path, tensors, StudentHeader("distill", "cnn", 0.5))
    with pytest.raises(CheckpointError, match=r"part\.safetensors has no model\.compressor"):
        load_student(teacher, [path])


def test_a_teacher_of_other_shapes_is_refused(tmp_path):
    teacher = models.teacher()
    teacher.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["vocab_size"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"mismatched keys, the first is .*; its weights are not those of"
    ) as caught:
        load_teacher(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("text_config", "vocab_size", 10**12, "config.json has 64,.* parameters, but the weights hold"),
        ("vision_config", "num_hidden_layers", 10**9, "config.json has 1000000004 layers, but the weights are"),
    ],
)
def test_a_config_far_larger_than_the_weights_takes_no_memory(tmp_path, part, key, value, message):
    teacher = models.teacher(tied=False)
    teacher.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[part][key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"model_type": "internvl", "vision_config": {"patch_size": "many"}}'),
        ("config.json", "[]"),
        ("tokenizer.json", '{"version": 3}'),
        ("tokenizer_config.json", "[]"),
    ],
)
def test_a_damaged_file_of_a_teacher_is_one_line(tmp_path, file, content):
    models.teacher().save_pretrained(tmp_path)
    models.processor().save_pretrained(tmp_path)
    (tmp_path / file).write_text(content)
    load, message = (
        (load_teacher, "cannot be loaded") if file == "config.json" else (load_processor, "has no processor")
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "where"),
    [
        ("{", "it: Invalid JSON"),
        ("[]", "it: Input should be"),
        ('{"stage": "sft", "ratio": 0.5}', "compressor: Field required"),
        ('{"stage": "sft", "compressor": "cnn", "ratio": "half"}', "ratio: Input should be a valid number"),
        ('{"stage": "sft", "compressor": "cnn", "ratio": 0.5, "options": 3}', "options: Input should be"),
    ],
)
def test_a_damaged_header_is_named(tmp_path, header, where):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={HEADER: header})
    with pytest.raises(CheckpointError, match=rf"has a damaged header: {where}.*; make the file anew"):
        read_student_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("wrong", [torch.full((64,), math.nan), torch.zeros(64, dtype=torch.int32)])
def test_tensors_are_finite_numbers(wrong):
    name = "model.compressor.bias"
    student = make_student(models.teacher(), compressor="cnn", ratio=0.5)
    with pytest.raises(CheckpointError, match=rf"x: {name} \(torch\.\w+\) holds something else than finite numbers"):
        load_tensors(student, {name: wrong}, source="x")


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    for load in (load_teacher, load_processor):
        with pytest.raises(CheckpointError, match=tmp_path.name) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_student_is_transformers_own_kind_of_model():
    """Weights, config, generation settings and gradient checkpointing as users know them."""
    student = trained_student(models.teacher())
    assert isinstance(student, InternVLForConditionalGeneration)
    student.activation_checkpointing_enable()
    student.train()
    processor = processor_for(models.processor(), student.config)
    inputs = processor([models.picture()], processor.render("What?", "That"))
    plain = student.eval()(**inputs, labels=inputs["input_ids"]).loss
    checkpointed = student.train()(**inputs, labels=inputs["input_ids"]).loss
    torch.testing.assert_close(checkpointed, plain)
    checkpointed.backward()
    assert student.model.compressor.weight.grad.any()


def test_bfloat16_students_reply():
    teacher = models.teacher().bfloat16()
    student = make_student(teacher, compressor="qformer", ratio=0.5, options={"hidden": 32})
    assert {p.dtype for p in student.parameters()} == {torch.bfloat16}
    assert logits(student).isfinite().all()
