"""Answers to questions about pictures, in batches, greedy or sampled."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import InternVLForConditionalGeneration

from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import project_visual_tokens
from fcotvl.core.prompts import TURN_END
from fcotvl.inference.decoding import Decoder, Logits, left_padded, seeded
from fcotvl.inference.drafts import follow, usual_length
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
    drafts: Sequence[str] | None = None,
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
        drafts: a guess at each reply, such as another model's. What of it is right is read in a few passes, not in one
            for each token: the faster, the better the guess, and with the same result. Pruning within the LLM makes
            no use of it.
        label: label of the progress bar; None for no bar.
    """
    decoding = Decoding(max_new_tokens, min_new_tokens=min_new_tokens)
    encoder = encoder or PictureEncoder(max_bytes=0)
    run = _Run(model, processor, decoding, batch_size, batch_tokens, max_tiles, pruning, encoder, label)
    return [first for first, *_ in run.replies(queries, drafts or ())]


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
    whole = cumulative[:, -1:].contiguous()
    found = torch.searchsorted(cumulative, uniforms.to(cumulative)[:, None] * whole, right=True)
    last = torch.searchsorted(cumulative, whole)  # that can be chosen: in float32, a number may be rounded to 1
    return found.minimum(last)[:, 0].to(logits.device)


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

    def replies(self, queries: Sequence[Query], drafts: Sequence[str] = ()) -> list[list[str]]:
        """Return all replies to each query, in the order of the queries."""
        guesses = drafts or [""] * len(queries)
        replies: list[list[str]] = [[] for _ in queries]
        was_training = self.model.training
        self.model.eval()
        try:
            bar = tqdm(total=len(queries), desc=self.label, disable=True if self.label is None else None)
            with torch.inference_mode(), bar:
                for window in windows(queries, window_size(self.batch_size, self.decoding.samples)):
                    asked, guessed = [queries[i] for i in window], [guesses[i] for i in window]
                    for i, texts in self._window(asked, guessed):
                        replies[window[i]] = texts
                        bar.update()
        finally:
            self.model.train(was_training)
        return replies

    def _window(self, queries: Sequence[Query], drafts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
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
            replies = self._decode(selected, [prompts[i] for i in indices], features, [drafts[i] for i in indices])
            yield from zip(indices, replies, strict=True)

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

    def _tokens(self, draft: str) -> list[int]:
        """The tokens of a guess at a reply, up to the end of turn."""
        tokens = self.processor.tokenizer(draft, add_special_tokens=False).input_ids
        return list(takewhile(lambda token: token != self._end, tokens))

    def _decode(
        self,
        queries: Sequence[Query],
        prompts: Sequence[Prompt],
        features: Mapping[str, Sequence[Tensor]],
        drafts: Sequence[str],
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
        guesses = [] if isinstance(self.pruning, Pruning) else [self._tokens(draft) for draft in drafts]
        replies = self._extend(decoder, logits, torch.stack(uniforms), guesses if any(guesses) else ())
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

    def _extend(
        self, decoder: Decoder, logits: Logits, uniforms: Float[Tensor, "row step"], drafts: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Return each row's tokens up to its end of turn; rows that have ended leave the batch."""
        end, most = self._end, self.decoding.max_new_tokens
        replies: list[list[int]] = [[] for _ in uniforms]
        live = list(range(len(replies)))
        chosen = self._choose(logits, uniforms, replies)
        while True:
            going = []
            for i, (row, token) in enumerate(zip(live, chosen.tolist(), strict=True)):
                replies[row] += [token] if token != end else []
                if token != end and len(replies[row]) < most:
                    going.append(i)
            if not going:
                return replies
            if len(going) < len(live):
                going = compact(going)
                live, rows = [live[i] for i in going], torch.tensor(going, device=chosen.device)
                chosen = chosen[rows]
                decoder.select(rows)
            own = [replies[row] for row in live]
            proposals = self._proposals(own, [drafts[row] for row in live] if drafts else [])
            if any(proposals):
                chosen = self._check(decoder, chosen, own, proposals)
            else:
                chosen = self._choose(decoder.step(chosen), uniforms[live], own)

    def _choose(
        self, logits: Logits, uniforms: Float[Tensor, "row step"], replies: Sequence[Sequence[int]]
    ) -> Int[Tensor, " row"]:
        """The next token of each reply."""
        lengths = list(map(len, replies))
        short = [i for i, length in enumerate(lengths) if length < self.decoding.min_new_tokens]
        if short:
            logits = logits.clone()
            logits[short, self._end] = -torch.inf
        return choose(logits, self.decoding, uniforms[range(len(lengths)), lengths])

    def _proposals(self, replies: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """What each draft says behind its reply, as far as it pays to check; nothing while a reply must not end."""
        if not drafts or min(map(len, replies)) < self.decoding.min_new_tokens:
            return []
        room = self.decoding.max_new_tokens - 1
        found = [follow(draft, reply)[: room - len(reply)] for draft, reply in zip(drafts, replies, strict=True)]
        count = usual_length(found)
        return [proposal[:count] for proposal in found]

    def _check(
        self,
        decoder: Decoder,
        chosen: Int[Tensor, " row"],
        replies: Sequence[list[int]],
        proposals: Sequence[Sequence[int]],
    ) -> Int[Tensor, " row"]:
        """Append to each reply what is right of its proposal, and return the token that follows."""
        rows = [torch.tensor([token, *own]) for token, own in zip(chosen.tolist(), proposals, strict=True)]
        tokens = pad_sequence(rows, batch_first=True).to(chosen.device)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(chosen.device)
        found = decoder.propose(tokens, mask)
        right = (found[:, :-1] == tokens[:, 1:]) & mask[:, 1:].bool()
        counts = right.cumprod(dim=1).sum(dim=1)
        decoder.keep(counts + 1, tokens.shape[1])
        for reply, proposal, count in zip(replies, proposals, counts.tolist(), strict=True):
            reply.extend(proposal[:count])
        return found.gather(1, counts[:, None])[:, 0]

    @cached_property
    def _end(self) -> int:
        token: int = self.processor.tokenizer.convert_tokens_to_ids(TURN_END)
        return token


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
