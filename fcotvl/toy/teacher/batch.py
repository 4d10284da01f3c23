"""Batches: several turns about one picture in one sequence, none of which sees another."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fcotvl.toy.teacher.chats import CHAT_KINDS, ChatBuilder, SupervisedChat
from fcotvl.train.turn_mask import PICTURE, turn_mask

ANSWER_WEIGHT = 3.0
"""Weight of the first token of an answer, on which a look-up succeeds or fails."""


@dataclass(frozen=True)
class ExerciseBatch:
    """Sequences of turns for the LLM, one per picture."""

    input_ids: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"]
    mask: Bool[Tensor, "batch 1 seq seq"]
    """Added to attention scores: each turn sees the picture and itself."""
    labels: Int[Tensor, "batch seq"]
    """The token to predict *at* this position, -100 elsewhere."""
    weights: Float[Tensor, "batch seq"]
    answer_kind: Int[Tensor, "batch seq"]
    """1 + index in ``CHAT_KINDS`` where the first token of an answer is predicted, else 0."""
    targets: Int[Tensor, "targets 4"]
    """Row, position, position to look at, and that of the name (-1: unsupervised)."""


def pack(rows: Sequence[Sequence[SupervisedChat]], builder: ChatBuilder, *, with_picture: bool = True) -> ExerciseBatch:
    """Put the turns of each row behind its picture, if there is one; padding sees only itself."""
    prefix = builder.image_prefix if with_picture else builder.text_prefix
    start = len(prefix)
    length = max(start + sum(len(c.prompt) + len(c.reply) - 1 for c in chats) for chats in rows)
    size = (len(rows), length)
    ids, positions, kinds = (torch.zeros(size, dtype=torch.long) for _ in range(3))
    labels, weights = torch.full(size, -100), torch.zeros(size)
    turn = -torch.arange(1, length + 1).repeat(len(rows), 1)
    targets: list[tuple[int, int, int, int]] = []
    ids[:, :start] = torch.tensor(prefix)
    positions[:, :start] = torch.arange(start)
    turn[:, :start] = PICTURE
    for row, chats in enumerate(rows):
        begin = start
        for number, chat in enumerate(chats, start=1):
            tokens = chat.prompt + chat.reply[:-1]
            end, reply = begin + len(tokens), begin + len(chat.prompt) - 1
            ids[row, begin:end] = torch.tensor(tokens)
            positions[row, begin:end] = torch.arange(start, start + len(tokens))
            turn[row, begin:end] = number
            labels[row, reply:end] = torch.tensor(chat.reply)
            if chat.weights:
                weights[row, reply:end] = torch.tensor(chat.weights)
            else:
                weights[row, reply:end] = len(chat.reply) ** -0.5
                weights[row, reply + chat.answer_position] *= ANSWER_WEIGHT
            kinds[row, reply + chat.answer_position] = 1 + CHAT_KINDS.index(chat.kind)
            for target in chat.targets:
                look = begin + target.quote_position if target.quote_position >= 0 else -1
                if target.visual_token >= 0:
                    look = builder.visual_start + target.visual_token
                name = begin + target.name_position if target.name_position >= 0 else -1
                targets.append((row, reply + target.position, look, name))
            begin = end
    table = torch.tensor(targets, dtype=torch.long).reshape(-1, 4)
    return ExerciseBatch(ids, positions, turn_mask(turn), labels, weights, kinds, table)
