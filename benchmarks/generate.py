"""RS-CoT's sampling beside transformers' ``generate``, greedy replies with and without drafts, and a decoding step.

    python benchmarks/generate.py --questions 32 --output generate.json
    python benchmarks/generate.py --architecture internvl2-2b --layers 2 --rows 32 --prompt 1024 --leaving 2

The first asks the bundled teacher, or ``--model``, about rendered charts as RS-CoT does. ``question by question`` calls
``generate`` once for each question, ``batched`` for as many as fcotvl decodes together, both with
``num_return_sequences``; replies differ, since random numbers do. Whether the greedy ones are equal is checked, and
they are given as drafts then, a share ``--wrong`` of them each to another question. A step is measured beside one whose
cache grows, with true shapes and random weights where ``--architecture`` is given; ``--leaving`` rows end before each.
All sides take their turn ``--pairs`` times. On a CPU, time is CPU time of this process, so that a busy machine does not
change the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from transformers import DynamicCache, InternVLForConditionalGeneration

from fcotvl.compress.checkpoints import load_model, load_processor
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.prompts import TEMPLATES, TURN_END
from fcotvl.inference.decoding import Decoder
from fcotvl.inference.generate import Query, compact, generate, sample
from fcotvl.inference.pictures import PictureEncoder
from fcotvl.internvl.architectures import teacher_config
from fcotvl.toy.render import render

TEMPERATURE, TOP_K = 0.7, 50
"""As in params.yaml."""
MAX_TILES = 1


def now(device: str) -> float:
    """Seconds: CPU time on a CPU, else wall-clock time once the device is done."""
    if device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def questions(count: int) -> list[Query]:
    """One question about each of ``count`` charts that is to be reasoned about."""
    pages = [render("chart", "test", number, seed=0) for number in range(count)]
    turns = [next(turn for turn in page.turns if turn.kind == "reason") for page in pages]
    prompts = [TEMPLATES["tiny"]["cot"].format(question=turn.question) for turn in turns]
    return [
        Query(partial(getattr, page, "image"), str(number), prompt)
        for number, (page, prompt) in enumerate(zip(pages, prompts, strict=True))
    ]


def by_transformers(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    queries: Sequence[Query],
    together: int,
    **settings: Any,
) -> list[str]:
    """Replies of the model's own ``generate`` to ``together`` queries at a time."""
    end = processor.tokenizer.convert_tokens_to_ids(TURN_END)
    replies = []
    for start in range(0, len(queries), together):
        part = queries[start : start + together]
        pictures, chats = [query.picture() for query in part], [processor.render(query.prompt) for query in part]
        inputs = processor(pictures, chats, max_tiles=MAX_TILES).to(model.device)
        ids = model.generate(**inputs, **settings, eos_token_id=end, pad_token_id=end)
        new = ids[:, inputs["input_ids"].shape[1] :]
        replies += [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
    return replies


def sides(
    model: InternVLForConditionalGeneration, processor: FcotvlProcessor, queries: Sequence[Query], args: Any
) -> dict[str, Callable[[], Any]]:
    """Ways to sample ``args.samples`` replies to each query."""
    limits = {"temperature": TEMPERATURE, "top_k": TOP_K, "max_new_tokens": args.max_new_tokens}
    ours = {"samples": args.samples, "batch_size": args.rows, "max_tiles": MAX_TILES, "label": None}
    theirs = {"do_sample": True, "num_return_sequences": args.samples}
    ask = partial(by_transformers, model, processor, queries, **limits, **theirs)
    return {
        "fcotvl": partial(sample, model, processor, queries, **limits, **ours),
        "question by question": partial(ask, together=1),
        "batched": partial(ask, together=max(1, args.rows // args.samples)),
    }


def drafted(
    model: InternVLForConditionalGeneration,
    processor: FcotvlProcessor,
    queries: Sequence[Query],
    replies: Sequence[str],
    args: Any,
) -> dict[str, list[float]]:
    """Seconds of greedy decoding without drafts, and with ``replies``, of which some are another question's.

    Pictures are encoded before, as for all coalitions of a merge but the first.
    """
    encoder = PictureEncoder()
    generate(model, processor, queries, max_new_tokens=1, max_tiles=MAX_TILES, encoder=encoder, label=None)
    wrong = round(args.wrong * len(replies))
    drafts = {"with": [*replies[1:wrong], *replies[:1], *replies[wrong:]] if wrong else replies, "without": None}
    seconds: dict[str, list[float]] = {name: [] for name in drafts}
    limits = {"max_new_tokens": args.max_new_tokens, "max_tiles": MAX_TILES, "batch_size": args.rows, "label": None}
    for _ in range(args.pairs):
        for name, given in drafts.items():
            start = now(args.device)
            if generate(model, processor, queries, encoder=encoder, drafts=given, **limits) != list(replies):
                raise ValueError(f"other replies {name} drafts")
            seconds[name].append(now(args.device) - start)
    return seconds


@torch.inference_mode()
def steps(model: InternVLForConditionalGeneration, args: Any) -> dict[str, list[float]]:
    """Seconds of each step, and of the rows that leave before it, with the cache of either kind."""
    decoders = {"preallocated": Decoder(model), "growing": Decoder(model)}
    decoders["growing"].cache = DynamicCache(config=model.config.text_config)
    ids = torch.zeros(2, args.prompt, dtype=torch.long, device=args.device)
    mask = torch.ones_like(ids)
    mask[0, 0] = 0  # prompts differ in length
    nothing = [torch.empty(0, model.config.text_config.hidden_size, device=args.device)]
    copies = torch.arange(2, device=args.device).repeat_interleave(args.rows // 2)
    logits = {name: decoder.prefill(ids, mask, nothing)[copies] for name, decoder in decoders.items()}
    for decoder in decoders.values():
        decoder.select(copies)
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(args.steps + 1):
        for name, decoder in decoders.items():
            start = now(args.device)
            tokens = logits[name].argmax(dim=-1)
            if 0 < args.leaving < len(tokens):  # the first ones do
                rows = torch.tensor(compact(range(args.leaving, len(tokens))), device=args.device)
                tokens = tokens[rows]
                decoder.select(rows)
            logits[name] = decoder.step(tokens)
            seconds[name].append(now(args.device) - start)
        if not torch.equal(logits["growing"], logits["preallocated"]):
            raise ValueError("the two caches give different logits")
    return {name: each[1:] for name, each in seconds.items()}


def show(title: str, unit: str, seconds: Mapping[str, Sequence[float]], count: int = 1) -> dict[str, float]:
    """Print the median of each side, and return it in times of the first side's."""
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    first = next(iter(medians))
    ratios = {name: each / medians[first] for name, each in medians.items()}
    rows = [[name, each / count, ratios[name]] for name, each in medians.items()]
    print(tabulate(rows, [title, f"s a {unit}", f"times {first}"], tablefmt="github", floatfmt=".3g") + "\n")
    return ratios


def main() -> None:
    """Measure all sides in turn and print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("teachers/tiny"), help="folder of a teacher or a student")
    parser.add_argument("--architecture", help="measure steps only, with these shapes")
    parser.add_argument("--layers", type=int, help="of the LLM; by default the architecture's")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=112)
    parser.add_argument("--rows", type=int, default=64, help="replies decoded together")
    parser.add_argument("--prompt", type=int, default=128, help="cached tokens of a row when steps begin")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--leaving", type=int, default=0, help="rows that end before each step")
    parser.add_argument("--wrong", type=float, default=0.1, help="share of drafts that are another question's reply")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    dtype, found = getattr(torch, args.dtype), dict[str, Any]()
    if args.architecture:
        config = teacher_config(args.architecture)
        config.vision_config.num_hidden_layers = 1
        config.text_config.num_hidden_layers = args.layers or config.text_config.num_hidden_layers
        model = InternVLForConditionalGeneration._from_config(config, dtype=dtype).to(args.device).eval()
    else:
        model, processor = load_model(args.model, dtype=dtype).to(args.device).eval(), load_processor(args.model)
        queries = questions(args.questions)
        greedy = {"max_new_tokens": args.max_new_tokens}
        theirs = by_transformers(model, processor, queries, 1, do_sample=False, **greedy)
        ours = generate(model, processor, queries, max_tiles=MAX_TILES, label=None, **greedy)
        found["equal greedy replies"] = sum(one == other for one, other in zip(ours, theirs, strict=True))
        runs: dict[str, list[float]] = {}
        for _ in range(args.pairs):
            for name, side in sides(model, processor, queries, args).items():
                start = now(args.device)
                side()
                runs.setdefault(name, []).append(now(args.device) - start)
        found |= {"seconds": runs, "ratio": show("sampling", "question", runs, args.questions)}
        print(f"Equal greedy replies: {found['equal greedy replies']} of {args.questions}\n")
        found["drafts"] = drafted(model, processor, queries, ours, args)
        found["draft ratio"] = show("drafts", "question", found["drafts"], args.questions)["without"]
    spent: dict[str, list[float]] = {}
    for _ in range(args.pairs):
        for name, each in steps(model, args).items():
            spent.setdefault(name, []).append(statistics.fmean(each))
    found |= {"steps": spent, "step ratio": show("cache", "step", spent)["growing"]}
    if args.output is not None:
        args.output.write_text(json.dumps({**{k: str(v) for k, v in vars(args).items()}, **found}, indent=2))


if __name__ == "__main__":
    main()
