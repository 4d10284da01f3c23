"""Losses of the LLM: replies, attention, and the words that visual tokens show.

In phase 2 target embeddings stand in for the ViT: each visual token is the sum of fixed vectors of what it shows, so
that the LLM meets the true two-dimensional layout of 64 tokens at the price of text. Phase 1 trains the ViT and the
projector to produce these very vectors.
"""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPast

from fcotvl.toy.teacher.attention_supervision import AttentionProbe, probe_attention
from fcotvl.toy.teacher.batch import ExerciseBatch, pack
from fcotvl.toy.teacher.chats import CHAT_KINDS, ChatBuilder, Contents
from fcotvl.toy.teacher.phase import StepResult
from fcotvl.toy.teacher.text_exercises import text_exercises

WORD_LAYER = 2
WORD_WEIGHT = 0.3
ATTENTION_WEIGHT = 0.3
NAME_LAYER, NAME_HEADS = 1, 2
"""Heads that attend from an answer to the name of what is asked for ..."""
VALUE_LAYER, VALUE_HEADS = 2, 3
"""... and those that then attend to where it is drawn."""


def picture_losses(
    model: InternVLForConditionalGeneration,
    batch: ExerciseBatch,
    visual: Float[Tensor, "tiles tokens width"],
    contents: Contents,
    builder: ChatBuilder,
) -> StepResult:
    """Losses of turns about pictures, given their visual tokens.

    An auxiliary loss asks the second layer which words a visual token shows: once the word of a question and that of
    the picture look alike inside the LLM, looking up is a matter of attention.
    """
    llm, start = model.model.language_model, builder.visual_start
    embeds = llm.embed_tokens(batch.input_ids)
    after = embeds[:, start + visual.size(1) :]
    embeds = torch.cat([embeds[:, :start], visual, after], dim=1)
    output, probes = _run(model, batch, embeds)
    is_word = contents[2] < llm.embed_tokens.num_embeddings
    tile, token, word = (column[is_word] for column in contents)
    logits = model.lm_head(llm.norm(output.hidden_states[WORD_LAYER][tile, start + token]))
    loss, correct = _reply_loss(model, batch, output.last_hidden_state)
    attention, losses = _attention_loss(batch, *probes)
    auxiliary = WORD_WEIGHT * F.cross_entropy(logits, word) + attention
    return StepResult(loss + auxiliary, correct, losses)


def exercise_losses(model: InternVLForConditionalGeneration, builder: ChatBuilder, rng: Random) -> StepResult:
    """Losses of a batch of exercises without pictures."""
    batch = pack(text_exercises(builder, rng), builder, with_picture=False)
    embeds = model.model.language_model.embed_tokens(batch.input_ids)
    output, probes = _run(model, batch, embeds)
    loss, correct = _reply_loss(model, batch, output.last_hidden_state)
    attention, losses = _attention_loss(batch, *probes)
    return StepResult(loss + attention, correct, {f"exercise {name}": value for name, value in losses.items()})


def _run(
    model: InternVLForConditionalGeneration, batch: ExerciseBatch, embeds: Float[Tensor, "batch seq width"]
) -> tuple[BaseModelOutputWithPast, list[AttentionProbe]]:
    """Output of the LLM with the inputs of its layers, and probes of names and of values."""
    llm = model.model.language_model
    with probe_attention([llm.layers[at].self_attn for at in (NAME_LAYER, VALUE_LAYER)]) as probes:
        output: BaseModelOutputWithPast = llm(
            inputs_embeds=embeds,
            attention_mask=batch.mask,
            position_ids=batch.position_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    return output, probes


def _attention_loss(
    batch: ExerciseBatch, names: AttentionProbe, values: AttentionProbe
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Weighted loss of the heads that look at values and of those that look at names."""
    losses = []
    for probe, column, heads in ((values, 2, VALUE_HEADS), (names, 3, NAME_HEADS)):
        supervised = batch.targets[batch.targets[:, column] >= 0]
        target = supervised[:, column, None].expand(-1, heads)
        losses.append(probe.loss(supervised[:, 0], supervised[:, 1], target, batch.mask))
    value, name = losses
    figures = {"value attention": value.item(), "name attention": name.item()}
    return ATTENTION_WEIGHT * (value + name), figures


def _reply_loss(
    model: InternVLForConditionalGeneration, batch: ExerciseBatch, hidden: Float[Tensor, "batch seq width"]
) -> tuple[Float[Tensor, ""], dict[str, tuple[float, int]]]:
    """Weighted cross entropy, and correct and all first tokens of answers by kind."""
    trained = batch.weights > 0
    logits = model.lm_head(hidden[trained])
    target, weight = batch.labels[trained], batch.weights[trained]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    kinds = batch.answer_kind[trained]
    right = logits.argmax(-1) == target
    correct = {
        kind: (float(right[kinds == code].sum()), count)
        for code, kind in enumerate(CHAT_KINDS, start=1)
        if (count := int((kinds == code).sum()))
    }
    return loss, correct
