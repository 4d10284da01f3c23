"""Phase 3: all parts learn together, on pictures."""

from __future__ import annotations

import logging
from random import Random

from fcotvl.toy.teacher.data import PageStream, batches
from fcotvl.toy.teacher.drill import drills
from fcotvl.toy.teacher.optim import Optimizers
from fcotvl.toy.teacher.pack import Packer
from fcotvl.toy.teacher.state import Progress, Tally
from fcotvl.toy.teacher.text import answer_loss, drill_loss, practise
from fcotvl.toy.teacher.vision import Parts, see

log = logging.getLogger(__name__)
SEEING = 0.5
"""Weight of what the ViT is asked by itself."""


def join(
    parts: Parts,
    packer: Packer,
    progress: Progress,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
) -> Tally:
    """Train everything on pictures; what the ViT had to tell stays as an auxiliary loss."""
    optimizers = Optimizers([parts.model.model, parts.reader])
    tally = Tally({})
    parts.model.train()
    drawn = PageStream(progress.done * batch, seed + 3, densities=(4, 6, 12, 12, 12, 12), run=batch)
    pages_of = batches(drawn, batch)
    for step in progress.steps(optimizers, steps, peak):
        pages, rng = next(pages_of), Random(f"join-{seed}-{step}")  # noqa: S311
        packed = packer.pack([practise(packer, page, rng) for page in pages])
        shown = packer.contents([page.words for page in pages])
        seen = see(parts, packer, pages, closeness=1.0)
        loss, found = answer_loss(parts.model, packed, seen.visual, packer.visual_at, shown)
        drilled, worked = drill_loss(parts.model, packer.pack(drills(packer, rng), pictured=False))
        (loss + SEEING * seen.loss + drilled).backward()
        tally.add(found | worked)
        if step % 25 == 0:
            log.info(
                "join %d/%d loss %.3f read %.4f off %.3f named %.3f seen %.3f %s", step, steps,
                loss.item(), seen.accuracy, seen.off, seen.named, seen.looking, tally,
            )  # fmt: skip
    parts.model.eval()
    return tally
