"""Answers to questions about pictures, in batches, greedy or sampled."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import project_visual_tokens
from fcotvl.core.prompts import TURN_END
from fcotvl.inference.decoding import Decoder, Logits, left_padded, seeded
from fcotvl.inference.early_pruning import EarlyPruning
from fcotvl.inference.pictures import TILE_BATCH, Encoded, PictureEncoder
from fcotvl.inference.pruned_decoding import Pruning, System

WINDOW = 8
"""Number of batches sorted by length together; their pictures are in memory at the same time."""
PICTURE_BATCH = 16
"""Number of pictures split into tiles together."""


@dataclass(frozen=True)
class Query:
    """One prompt about one picture."""

    picture: Callable[[], Image.Image]
    """Opens the picture, as ``Record.decode`` does."""
    picture_id: str
    """Queries with the same id share the picture and its features."""
    prompt: str


@dataclass(frozen=True)
class Prompt:
    """The token ids of a prompt."""

    picture: Int[Tensor, " head"]
    """Up to the last visual token: the same for all prompts about a picture."""
    words: Int[Tensor, " tail"]
    """What follows."""


@dataclass(frozen=True)
class Decoding:
    """How replies are chosen."""

    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_k: int | None = None
    samples: int = 1
    """Number of replies per query."""
    seed: int = 0
    min_new_tokens: int = 0
    """A reply does not end before it has so many."""

    def uniforms(self, query: Query, sample: int) -> Float[Tensor, " step"]:
        """Random numbers in [0, 1) of one reply; they do not depend on its batch."""
        generator = seeded(self.seed, query.picture_id, query.prompt, sample)
        return torch.rand(self.max_new_tokens, generator=generator, dtype=torch.float64)


def generate(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    queries: Sequence[Query],
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    max_tiles: int | None = None,
    pruning: Pruning | EarlyPruning | None = None,
    encoder: PictureEncoder | None = None,
    label: str | None = "generate",
) -> list[str]:
    """Return the greedy reply to each query, in the order of the queries.

    Args:
        model: teacher or student.
        processor: adapted to the model's visual tokens, see ``processor_for``.
        queries: prompts and their pictures.
        max_new_tokens: length at which a reply is cut off.
        min_new_tokens: length before which it does not end.
        batch_size: most replies decoded together.
        batch_tokens: most tokens that these replies and their prompts may have, padding counted; a query alone may have
            more. None: any number.
        max_tiles: largest number of tiles per picture; by default the processor's.
        pruning: how to drop visual tokens, if at all: at prefill or before.
        encoder: keeps encoded pictures between calls for models with the same ViT; by default, pictures are encoded
            for this call alone.
        label: label of the progress bar; None for no bar.
    """
    decoding = Decoding(max_new_tokens, min_new_tokens=min_new_tokens)
    encoder = encoder or PictureEncoder(max_bytes=0)
    run = _Run(model, processor, decoding, batch_size, batch_tokens, max_tiles, pruning, encoder, label)
    return [first for first, *_ in run.replies(queries)]


def sample(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    queries: Sequence[Query],
    *,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    top_k: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    max_tiles: int | None = None,
    label: str | None = "sample",
) -> list[list[str]]:
    """Sample ``samples`` replies to each query; they depend only on the query and ``seed``.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} does not sample; use generate for greedy")
    decoding = Decoding(max_new_tokens, temperature, top_k, samples, seed)
    encoder = PictureEncoder(max_bytes=0)
    run = _Run(model, processor, decoding, batch_size, batch_tokens, max_tiles, None, encoder, label)
    return run.replies(queries)


def choose(logits: Logits, decoding: Decoding, uniforms: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """Choose the next token of each row: the most likely, or the one its random number selects."""
    if not decoding.temperature:
        return logits.argmax(dim=-1)
    # In float32, since some accelerators lack float64.
    scaled = logits.float() / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < scaled.shape[-1]:
        least = scaled.topk(decoding.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    if torch.are_deterministic_algorithms_enabled():  # CUDA has no deterministic cumulative sum of floats
        probabilities = probabilities.cpu()
    cumulative = probabilities.cumsum(dim=-1)
    targets = uniforms.to(cumulative)[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, targets, right=True)
    return found[:, 0].clamp(max=logits.shape[-1] - 1).to(logits.device)


def compact(rows: Sequence[int]) -> list[int]:
    """``rows`` in an order that leaves as many as can be in their places, so that few are copied."""
    late = iter([row for row in rows if row >= len(rows)])
    stays = set(rows)
    return [place if place in stays else next(late) for place in range(len(rows))]


@dataclass(frozen=True)
class _Run:
    """The arguments of ``generate`` or ``sample``, except the queries."""

    model: InternVLForConditionalGeneration
    processor: FcotvlProcessor
    decoding: Decoding
    batch_size: int
    batch_tokens: int | None
    max_tiles: int | None
    pruning: Pruning | EarlyPruning | None
    encoder: PictureEncoder
    label: str | None

    def replies(self, queries: Sequence[Query]) -> list[list[str]]:
        """Return all replies to each query, in the order of the queries."""
        replies: list[list[str]] = [[] for _ in queries]
        was_training = self.model.training
        self.model.eval()
        try:
            bar = tqdm(total=len(queries), desc=self.label, disable=True if self.label is None else None)
            with torch.inference_mode(), bar:
                for window in windows(queries, window_size(self.batch_size, self.decoding.samples)):
                    for i, texts in self._window([queries[i] for i in window]):
                        replies[window[i]] = texts
                        bar.update()
        finally:
            self.model.train(was_training)
        return replies

    def _window(self, queries: Sequence[Query]) -> Iterator[tuple[int, list[str]]]:
        """Yield index and replies of each query, smallest pictures first, those of a picture together."""
        features = self._features(queries)
        tiles = [list(map(len, features[query.picture_id])) for query in queries]
        chats = self.processor.expand([self.processor.render(q.prompt) for q in queries], tiles)
        inputs = self.processor.tokenize(chats).to(self.model.device)
        lengths = inputs["attention_mask"].sum(dim=-1).tolist()
        is_visual = inputs["input_ids"] == self.model.config.image_token_id
        words = is_visual.flip(1).int().argmax(dim=1).tolist()
        rows = inputs["input_ids"].unbind()
        prompts = [Prompt(row[-n:-w], row[-w:]) for row, n, w in zip(rows, lengths, words, strict=True)]
        places = {name: place for place, name in enumerate(features)}
        order = sorted(
            range(len(queries)),
            key=lambda i: (len(prompts[i].picture), places[queries[i].picture_id], len(prompts[i].words), i),
        )
        samples, new = self.decoding.samples, self.decoding.max_new_tokens
        size, tokens = max(1, self.batch_size // samples), self.batch_tokens and self.batch_tokens // samples
        for batch in cut([lengths[i] + new for i in order], size, tokens):
            indices = order[batch]
            selected = [queries[i] for i in indices]
            yield from zip(indices, self._decode(selected, [prompts[i] for i in indices], features), strict=True)

    def _features(self, queries: Sequence[Query]) -> dict[str, list[Tensor]]:
        """Projected visual tokens of each tile, by picture id."""
        pictures = {query.picture_id: query.picture for query in queries}
        ids = list(pictures)
        features: dict[str, list[Tensor]] = {}
        early = self.pruning if isinstance(self.pruning, EarlyPruning) else None
        for start in range(0, len(ids), PICTURE_BATCH):
            names = ids[start : start + PICTURE_BATCH]
            encoded = self.encoder.encode(
                self.model,
                self.processor.image_processor,
                {name: pictures[name] for name in names},
                self.max_tiles,
                early,
            )
            tiles = iter(self._project(encoded))
            for name, picture in zip(names, encoded, strict=True):
                own = list(islice(tiles, len(picture.tokens)))
                features[name] = early.choose(own) if early else own
        return features

    def _project(self, pictures: Sequence[Encoded]) -> Iterator[Float[Tensor, "k hidden"]]:
        """Yield the projected visual tokens of each tile."""
        tokens = torch.cat([picture.tokens for picture in pictures])
        chosen = [count for picture in pictures for count in picture.tile_tokens or ()]
        for start in range(0, len(tokens), TILE_BATCH):
            part = slice(start, start + TILE_BATCH)
            yield from project_visual_tokens(self.model.model, tokens[part], chosen[part] or None)

    def _decode(
        self, queries: Sequence[Query], prompts: Sequence[Prompt], features: Mapping[str, Sequence[Tensor]]
    ) -> list[list[str]]:
        """Return the replies to a batch of queries."""
        names = [f"{query.picture_id}\0{query.prompt}" for query in queries]
        decoder = System(self.model, self.pruning).decoder(names)
        logits = self._prefill(decoder, [query.picture_id for query in queries], prompts, features)
        count = self.decoding.samples
        if count > 1:
            copies = torch.arange(len(queries), device=logits.device).repeat_interleave(count)
            decoder.select(copies)
            logits = logits[copies]
        uniforms = [self.decoding.uniforms(query, i) for query in queries for i in range(count)]
        replies = self._extend(decoder, logits, torch.stack(uniforms))
        texts = self.processor.tokenizer.batch_decode(replies, skip_special_tokens=True)
        return [[t.strip() for t in texts[i : i + count]] for i in range(0, len(texts), count)]

    def _prefill(
        self,
        decoder: Decoder,
        pictures: Sequence[str],
        prompts: Sequence[Prompt],
        features: Mapping[str, Sequence[Tensor]],
    ) -> Logits:
        """Read a batch of prompts, each picture once: unless the words decide which of its tokens stay."""
        padding = self.processor.tokenizer.pad_token_id
        read = {name: prompt.picture for name, prompt in zip(pictures, prompts, strict=True)}
        if len(read) == len(pictures) or isinstance(self.pruning, Pruning):
            visual = [tile for name in pictures for tile in features[name]]
            whole = [torch.cat([prompt.picture, prompt.words]) for prompt in prompts]
            return decoder.prefill(*left_padded(whole, padding), visual)
        decoder.prefill(*left_padded(list(read.values()), padding), [tile for name in read for tile in features[name]])
        places = {name: place for place, name in enumerate(read)}
        decoder.select(torch.tensor([places[name] for name in pictures], device=self.model.device))
        return decoder.extend(*left_padded([prompt.words for prompt in prompts], padding))

    def _extend(self, decoder: Decoder, logits: Logits, uniforms: Float[Tensor, "row step"]) -> list[list[int]]:
        """Return each row's tokens up to its end of turn; rows that have ended leave the batch."""
        end = self.processor.tokenizer.convert_tokens_to_ids(TURN_END)
        replies: list[list[int]] = [[] for _ in uniforms]
        live = list(range(len(replies)))
        for step in range(self.decoding.max_new_tokens):
            if step < self.decoding.min_new_tokens:
                logits = logits.index_fill(1, torch.tensor([end], device=logits.device), -torch.inf)
            chosen = choose(logits, self.decoding, uniforms[live, step])
            going = [i for i, token in enumerate(chosen.tolist()) if token != end]
            if not going:
                break
            if len(going) < len(live):
                going = compact(going)
                live, rows = [live[i] for i in going], torch.tensor(going, device=chosen.device)
                chosen = chosen[rows]
                decoder.select(rows)
            for row, token in zip(live, chosen.tolist(), strict=True):
                replies[row].append(token)
            if step + 1 < self.decoding.max_new_tokens:
                logits = decoder.step(chosen)
        return replies


def cut(lengths: Sequence[int], size: int, tokens: int | None = None) -> Iterator[slice]:
    """Cut items of these lengths into batches of up to ``size``, and of up to ``tokens`` with padding.

    An item that is longer is a batch of its own.
    """
    start = longest = 0
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        if end > start and (end - start == size or (tokens is not None and (end - start + 1) * longest > tokens)):
            yield slice(start, end)
            start, longest = end, length
    yield slice(start, len(lengths))


def window_size(batch_size: int, samples: int = 1) -> int:
    """Number of queries in a window, where up to ``batch_size`` replies are decoded together."""
    return max(1, batch_size // samples) * WINDOW


def windows(queries: Sequence[Query], size: int) -> Iterator[list[int]]:
    """Yield indices of the queries in groups of ``size``, those of a picture together.

    A group on its own is answered in the same batches.
    """
    first: dict[str, int] = {}
    for index, query in enumerate(queries):
        first.setdefault(query.picture_id, index)
    order = sorted(range(len(queries)), key=lambda i: (first[queries[i].picture_id], i))
    for start in range(0, len(order), size):
        yield order[start : start + size]
