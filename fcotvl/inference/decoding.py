"""Prefill a batch of prompts once, then extend every row by one token at a time."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicLayer, InternVLForConditionalGeneration

from fcotvl.compress.positions import positions, token_widths
from fcotvl.compress.student import Visual

ROOM = 64
"""Tokens that a full buffer grows by."""
HEAD_ROWS = 32
"""Rows of several tokens that pass the head together: the logits of all of them would take much memory."""

Ids = Int[Tensor, "row seq"]
Mask = Int[Tensor, "row seq"]
"""1 on tokens, 0 on padding."""
Visible = Bool[Tensor, "row 1 query key"]
"""Whether a token attends to a cached one."""
States = Float[Tensor, "row seq hidden"]
KeyValues = Float[Tensor, "row head token width"]
Logits = Float[Tensor, "row vocab"]


def embed(model: InternVLForConditionalGeneration, input_ids: Ids, features: Visual) -> Float[Tensor, "row seq hidden"]:
    """Embed ``input_ids``, with visual tokens at their placeholders in order of rows and tiles.

    Raises:
        ValueError: the numbers of placeholders and visual tokens differ.
    """
    embedded = model.get_input_embeddings()(input_ids)
    is_visual = input_ids == model.config.image_token_id
    visual = torch.cat(list(features)).to(embedded)
    if int(is_visual.sum()) != len(visual):
        raise ValueError(f"{int(is_visual.sum())} placeholders for {len(visual)} visual tokens")
    embedded[is_visual] = visual
    return embedded


def left_padded(rows: Sequence[Int[Tensor, " _"]], padding: int = 0) -> tuple[Ids, Mask]:
    """Stack rows of unequal length, padded on the left, with their mask."""
    rows, masks = list(rows), [torch.ones_like(row) for row in rows]
    stacked = pad_sequence(rows, batch_first=True, padding_value=padding, padding_side="left")
    return stacked, pad_sequence(masks, batch_first=True, padding_side="left")


def seeded(*parts: object) -> torch.Generator:
    """Make a random generator from ``parts`` alone, so that its numbers depend on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values, as views of buffers with room for more tokens.

    ``DynamicLayer`` copies all that it holds at every step, this one at every ``ROOM``-th.
    """

    buffers: Sequence[KeyValues]
    """Of keys and of values; they may have rows that have left the batch."""

    def update(
        self,
        key_states: Float[Tensor, "row head new width"],
        value_states: Float[Tensor, "row head new width"],
        *args: Any,  # noqa: ARG002 - transformers' signature
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[KeyValues, KeyValues]:
        """Append the keys and values of new tokens, and return those of all."""
        new = (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(*new)
            self.buffers = [states[:, :, :0] for states in new]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if end > self.buffers[0].shape[2]:
            held = [buffer[: len(key_states), :, :start] for buffer in self.buffers]
            self.buffers = [old.new_empty((*old.shape[:2], end + ROOM, old.shape[3])) for old in held]
            for buffer, old in zip(self.buffers, held, strict=True):
                buffer[:, :, :start] = old
        for buffer, states in zip(self.buffers, new, strict=True):
            buffer[: len(states), :, start:end] = states
        return self._narrow(len(key_states), end)

    def select(self, rows: Int[Tensor, " row"], moved: Int[Tensor, " _"]) -> None:
        """Continue with ``rows``; those at ``moved`` come from another place."""
        if len(rows) > len(self.buffers[0]):
            self.buffers = [buffer.index_select(0, rows) for buffer in self.buffers]
        else:
            for buffer in self.buffers:
                buffer[moved] = buffer[rows[moved]]
        self._narrow(len(rows), self.get_seq_length())

    def _narrow(self, rows: int, tokens: int) -> tuple[KeyValues, KeyValues]:
        self.keys, self.values = (buffer[:rows, :, :tokens] for buffer in self.buffers)
        return self.keys, self.values


class PreallocatedCache(Cache):
    """The keys and values of all layers, which may differ in length.

    ``batch_select_indices`` and ``reorder_cache`` alone change the rows.
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=PreallocatedLayer)

    def batch_select_indices(self, indices: Int[Tensor, " row"]) -> None:
        """Continue with these rows; only those that change places are copied."""
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for layer in self.layers:
            layer.select(indices, moved)

    reorder_cache = batch_select_indices


class KeyMask:
    """Which cached tokens a batch attends to: all but padding.

    Args:
        attention_mask: of the prompts.
    """

    def __init__(self, attention_mask: Mask) -> None:
        self._tokens = attention_mask.bool()
        self._has_padding = not bool(self._tokens.all())

    def prompt(self) -> Visible | None:
        """What each token of the prompts attends to: itself and those before it. None: without padding, all of them.

        Padding attends to itself, since kernels differ in what they make of a token that attends to nothing.
        """
        return self._causal(self._tokens.shape[1]) if self._has_padding else None

    def extend(self, keys: int, attention_mask: Mask) -> Visible:
        """What each token attends to that follows ``keys`` cached ones, where ``attention_mask`` has padding too."""
        self._grow(keys)
        self._tokens = torch.cat([self._tokens[:, :keys], attention_mask.bool()], dim=1)
        self._has_padding = not bool(self._tokens.all())
        return self._causal(attention_mask.shape[1])

    def keep(self, counts: Int[Tensor, " row"], new: int) -> None:
        """Of the ``new`` last tokens of each row, go on with the first ``counts``; the others become padding."""
        self._tokens[:, -new:] = torch.arange(new, device=counts.device) < counts[:, None]
        self._has_padding = not bool(self._tokens.all())

    def _causal(self, queries: int) -> Visible:
        """What each of the last tokens attends to."""
        key = torch.arange(self._tokens.shape[1], device=self._tokens.device)
        query = key[-queries:, None]
        return (self._tokens[:, None, None] & (key <= query)) | (key == query)

    def step(self, keys: int) -> Visible | None:
        """What the last of ``keys`` tokens attends to. None: without padding, all."""
        if not self._has_padding:
            return None
        self._grow(keys)
        return self._tokens[:, None, None, :keys]

    def _grow(self, keys: int) -> None:
        """Make room for tokens of steps, which are no padding."""
        if keys > (held := self._tokens.shape[1]):
            self._tokens = pad(self._tokens, (0, keys - held + ROOM), value=True)

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Continue with these rows only."""
        self._tokens = self._tokens[rows]
        self._has_padding = not bool(self._tokens.all())


class Decoder:
    """A batch of left-padded rows and their KV cache.

    Args:
        model: teacher or student.

    Raises:
        ValueError: the LLM's attention is not PyTorch's own.
    """

    mask: KeyMask
    position_ids: Int[Tensor, "row 1"]
    """The last position that each row takes up."""

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        self.model = model
        self.llm = model.model.language_model
        if (found := self.llm.config._attn_implementation) != "sdpa":
            raise ValueError(f"the LLM's attention is {found}; for decoding, call set_attn_implementation('sdpa')")
        self.cache = PreallocatedCache()

    def prefill(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Logits:
        """Read the prompts and return the logits of each row's first new token."""
        self.mask, embedded = KeyMask(attention_mask), embed(self.model, input_ids, features)
        return self._run(embedded, self._place(input_ids, attention_mask, features), self.mask.prompt())

    def extend(self, input_ids: Ids, attention_mask: Mask) -> Logits:
        """Append tokens, padded on the left, to each row of the prefill, and return the logits of the next."""
        position_ids = self.position_ids + attention_mask.cumsum(dim=-1)
        self.position_ids = position_ids[:, -1:]
        mask = self.mask.extend(self.cache.get_seq_length(), attention_mask)
        return self._run(self.model.get_input_embeddings()(input_ids), position_ids, mask)

    def step(self, tokens: Int[Tensor, " row"]) -> Logits:
        """Append one token to each row and return the logits of the next."""
        self.position_ids = self.position_ids + 1
        mask = self.mask.step(self.cache.get_seq_length() + 1)
        return self._run(self.model.get_input_embeddings()(tokens[:, None]), self.position_ids, mask)

    def propose(self, tokens: Ids, attention_mask: Mask) -> Int[Tensor, "row new"]:
        """Append several tokens, padded on the right, to each row, and return the most likely one after each.

        ``keep`` must follow.
        """
        mask = self.mask.extend(self.cache.get_seq_length(), attention_mask)
        position_ids = self.position_ids + attention_mask.cumsum(dim=-1)
        states = self._states(self.model.get_input_embeddings()(tokens), position_ids, mask)
        return torch.cat([self.model.lm_head(part).argmax(dim=-1) for part in states.split(HEAD_ROWS)])

    def keep(self, counts: Int[Tensor, " row"], new: int) -> None:
        """Of the ``new`` tokens that were proposed, each row goes on behind its first ``counts``."""
        self.mask.keep(counts, new)
        self.position_ids = self.position_ids + counts[:, None]

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Continue with these rows only; a row may be repeated."""
        self.position_ids = self.position_ids[rows]
        self.mask.select(rows)
        self.cache.batch_select_indices(rows)

    def _place(self, input_ids: Ids, attention_mask: Mask, features: Visual) -> Ids:
        """Positions of the prompts; what follows goes on behind them."""
        widths = token_widths(self.model.config, input_ids, attention_mask, [len(tile) for tile in features])
        self.position_ids = widths.sum(dim=-1, keepdim=True) - 1
        return positions(widths)

    def _run(self, embedded: States, position_ids: Ids, mask: Visible | None) -> Logits:
        logits: Tensor = self.model.lm_head(self._states(embedded, position_ids, mask)[:, -1])
        return logits

    def _states(self, embedded: States, position_ids: Ids, mask: Visible | None) -> States:
        states: Tensor = self.llm(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return states
