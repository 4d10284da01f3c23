"""A student as a folder that transformers loads: weights, processor, tokenizer and model card."""

from __future__ import annotations

from pathlib import Path

from fcotvl.compress.checkpoints import processor_for
from fcotvl.compress.config import FcotvlConfig, full_tokens, tile_tokens
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.evaluate.cost import cost, parameters

CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- fcotvl
- visual-token-compression
---

# {name}

An InternVL model that reads {left} instead of {full} visual tokens per tile: {removed} of them
are removed by the compressor `{compressor}` between pixel shuffle and projector. Made by stage
`{stage}` of [fcotvl](https://arxiv.org/abs/2502.18512), a reproduction of FCoT-VL.

```python
import fcotvl
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
inputs = processor([picture], processor.render("What is the total?"), return_tensors="pt")
reply = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(reply[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```

| | |
|---|---|
| parameters | {parameters:.3g} |
| of which compressor | {added:.3g} |
| tiles per picture | up to {tiles}, and a thumbnail |
| LLM prefill FLOPs ({worst} tiles, {text} text tokens) against no compression | {prefill:.0%} |
| KV cache against no compression | {cache:.0%} |

The FLOPs and bytes are computed from the config; scores belong to the run that made the weights and
are in its report.
"""
TEXT_TOKENS = 50
"""Text tokens of the prompt that the card's FLOPs are about."""


def export(
    model: FcotvlForConditionalGeneration,
    processor: FcotvlProcessor,
    folder: Path,
    *,
    name: str,
    stage: str,
) -> None:
    """Write ``model`` with everything needed to use it to ``folder``.

    Args:
        model: the student.
        processor: of its teacher.
        folder: made if it is not there.
        name: heading of the card.
        stage: which stage made the weights.
    """
    model.save_pretrained(folder)
    processor_for(processor, model.config).save_pretrained(folder)
    text = card(model, processor, name=name, stage=stage)
    (folder / "README.md").write_text(text, encoding="utf-8")


def card(
    model: FcotvlForConditionalGeneration, processor: FcotvlProcessor, *, name: str, stage: str
) -> str:
    """The model card: what it is, how it is loaded, what it costs."""
    config = model.config
    counts, left = parameters(config), tile_tokens(config)
    most = processor.image_processor.max_tiles
    worst = most + (most > 1)
    ours = cost(config, tiles=worst, text_tokens=TEXT_TOKENS)
    plain = FcotvlConfig.from_teacher(config, compressor="identity", ratio=0.0)
    whole = cost(plain, tiles=worst, text_tokens=TEXT_TOKENS)
    return CARD.format(
        name=name,
        stage=stage,
        compressor=config.compressor,
        removed=("on average " if len(left) > 1 else "") + f"{config.ratio:.1%}",
        left=" or ".join(map(str, left)),
        full=full_tokens(config),
        parameters=counts["total"],
        added=counts["compressor"],
        tiles=most,
        worst=worst,
        text=TEXT_TOKENS,
        prefill=ours.prefill / whole.prefill,
        cache=ours.kv_bytes / whole.kv_bytes,
    )
