"""Print a mix as a table, and what a run takes at hub scale."""

import sys
from dataclasses import asdict
from functools import partial
from statistics import mean

import torch
from tabulate import tabulate

from fcotvl.compress import compressors
from fcotvl.compress.config import FcotvlConfig, full_tokens
from fcotvl.core.config import Params
from fcotvl.dag.limits import SPEED, TEXT
from fcotvl.data.lazy_records import SPLIT_SHARES
from fcotvl.data.plan import Planned, plan
from fcotvl.evaluate.cost import parameters, training_flops
from fcotvl.evaluate.memory import kv_bytes, trained_parameters, training_memory
from fcotvl.internvl.architectures import teacher_config

REPEATED = 1.005
"""Epochs from which on a source counts as repeated: less is rounding."""
PROMPT = 60
"""Text tokens of a question with its template."""
ANSWER = 150
"""Text tokens of a picture that are predicted."""


def run(params: Params) -> None:
    """Print how many images each split takes of each source, and what training and generation take at hub scale."""
    _print_mix(params)
    if params.scale_config.model.dtype == "bfloat16":
        _print_training(params)
        _print_generation(params)


def _print_mix(params: Params) -> None:
    """Print images of each split and source, with licences, sizes and epochs."""
    corpus = params.mix_config.corpus
    planned = plan(params.mix_config.sources, corpus)
    rows = [
        [
            *(one.name, one.licence, _shown(one.images), _shown(one.gigabytes), *_counts(one)),
            f"{one.epochs:.2f}" if one.epochs > REPEATED else "",
        ]
        for one in planned
    ]
    totals = {split: sum(one.taken.get(split, 0) for one in planned) for split in SPLIT_SHARES}
    rows.append(["all", "", "", "", *(f"{totals[split]:,}" for split in SPLIT_SHARES)])
    rows.append(["requested", "", "", "", *(f"{getattr(corpus, split):,}" for split in SPLIT_SHARES)])
    header = ["source", "licence", "images", "GB", *SPLIT_SHARES, "epochs"]
    right = ["left", "left", *["right"] * (len(header) - 2)]
    print(tabulate(rows, header, tablefmt="github", colalign=right, disable_numparse=True))
    hub = [
        one for one, source in zip(planned, params.mix_config.sources, strict=True) if source.reader == "huggingface"
    ]
    unknown = [one.name for one in hub if one.gigabytes is None]
    known = sum(one.gigabytes or 0 for one in hub)
    sys.stdout.write(
        f"\nDownloads: {known:,.0f} GB for {len(hub) - len(unknown)} of {len(hub)} hub sources. "
        "Rows are streamed: only what is kept is written; each further epoch streams again.\n"
    )
    if unknown:
        sys.stdout.write(f"Of unknown size: {', '.join(unknown)}.\n")


def _counts(one: Planned) -> list[str]:
    return [f"{one.taken[split]:,}" if split in one.taken else "" for split in SPLIT_SHARES]


def _shown(value: int | float | None) -> str:
    return "?" if value is None else f"{value:,}"


def _print_training(params: Params) -> None:
    """Print operations, accelerator hours and memory of distillation and fine-tuning."""
    scale = params.scale_config
    teacher = teacher_config(scale.model.architecture)
    options = params.compressors.get(params.compressor, {})
    students = [
        FcotvlConfig.from_teacher(teacher, compressor=params.compressor, ratio=ratio, options=options)
        for ratio in compressors.train_ratios(params.compressor) or (params.ratio,)
    ]
    tiles, rows = scale.model.max_tiles + 1, []
    budgets = (
        ("distill", scale.distill.on(scale.launch.distill)),
        ("sft", params.sft_budget(params.recipe).on(scale.launch.sft)),
    )
    for stage, optim in budgets:
        asks = stage == "distill" or params.recipes[params.recipe].asks_teacher
        flops = partial(training_flops, tiles=tiles, text_tokens=TEXT, answer_tokens=ANSWER, trains_llm=stage == "sft")
        one = mean(flops(student, teacher if asks else None) for student in students)
        total = one * optim.steps * optim.batch_size
        launch = scale.launch
        memory = training_memory(
            stage, students[0], optim, asks_teacher=asks, processes=launch.processes, strategy=launch.strategy
        )
        kept = scale.sft.checkpoints if stage == "sft" else 1
        disk = kept * trained_parameters(stage, students[0]) * getattr(torch, scale.model.dtype).itemsize
        parts = [f"{name} {size / 1e9:.0f}" for name, size in asdict(memory).items() if size]
        hours = f"{total / SPEED / 3600:,.0f}"
        rows.append(
            [
                *(stage, f"{optim.steps:,}", f"{total / 1e18:,.0f}", hours, f"{disk / 1e9:.1f}"),
                *(f"{memory.total / 1e9:.0f}", ", ".join(parts)),
            ]
        )
    print(f"\nTraining at scale {params.scale}, {params.compressor} at ratio {params.ratio}:\n")
    header = ["stage", "steps", "EFLOP", "accelerator hours", "GB on disk", "GB a process", "of which"]
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True, colalign=["left", *["right"] * 5, "left"]))
    print(
        f"\nAssumed: {tiles} tiles, {TEXT} text tokens, {ANSWER} of them answers, and {SPEED / 1e12:g} TFLOP/s, which "
        f"distillation\nat 2B reaches on an H100. Memory is that of each of {scale.launch.processes} processes "
        f"({scale.launch.strategy}) with a full micro-batch. On\ndisk are the checkpoints of a variant and recipe."
    )


def _print_generation(params: Params) -> None:
    """Print how many of the teacher's longest replies are decoded together, and the memory of their cache."""
    scale = params.scale_config
    teacher, rows = teacher_config(scale.model.architecture), []
    weights = 2 * parameters(teacher)["total"] / 1e9
    tiles, new = scale.model.max_tiles + 1, scale.prompts.cot_tokens
    longest = tiles * full_tokens(teacher) + PROMPT + new
    for stage, budget, samples in (("rscot", scale.rscot, scale.rscot.samples), ("predict, merge", scale.evaluate, 1)):
        together = samples * max(1, min(budget.batch_size, budget.batch_tokens // longest) // samples)
        cache = kv_bytes(teacher, budget.batch_tokens) / 1e9
        rows.append([stage, f"{budget.batch_tokens:,}", together, f"{weights:.0f}", f"{cache:.1f}"])
    print(f"\nGeneration at scale {params.scale}, the teacher:\n")
    header = ["stage", "batch_tokens", "longest replies together", "GB of weights", "GB of cache, at most"]
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True, colalign=["left", *["right"] * 4]))
    print(f"\nAssumed: {tiles} tiles, {PROMPT} text tokens and {new} new ones. Replies that end leave the batch.")
