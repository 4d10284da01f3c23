"""What the frozen teacher reads at the answer tokens of a batch, on disk: once for all students of a grid."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from transformers import InternVLForConditionalGeneration

from fcotvl.core.resume import code_of
from fcotvl.core.tensor_cache import TensorCache, arithmetic, raw_bytes, weights_digest
from fcotvl.train.packing import Answers, Batch, HiddenStates


class TeacherCache:
    """The teacher's answers by content: of the batch, of its weights, of our code, and of how it computes.

    Whole batches are kept, not pictures: what a kernel rounds depends on what else is in the batch. Students that are
    trained with one seed see the same batches, whatever their compressor, ratio and learning rate.

    Args:
        teacher: its weights do not change any more.
        folder: where its answers are kept.
        gigabytes: most space on disk.
    """

    def __init__(self, teacher: InternVLForConditionalGeneration, folder: Path, gigabytes: float) -> None:
        self._teacher = weights_digest(teacher, teacher.config, code_of("distill"))
        self._kept = TensorCache("the teacher's hidden states", folder, gigabytes)

    def answers(self, batch: Batch, compute: Callable[[], Answers], *, hidden: bool) -> Answers:
        """What is on disk for ``batch``, or what ``compute`` gives, which is kept.

        Args:
            batch: pictures and turns; how many visual tokens a student makes of them does not matter.
            compute: asks the teacher.
            hidden: whether hidden states of all layers are wanted.
        """
        key = self._key(batch, hidden=hidden)
        found = self._kept.read(key, batch.pixels.device)
        if found is None:
            answers = compute()
            layers = answers.hidden
            rest = [] if layers is None else [layers.items, layers.turns, *layers.layers]
            self._kept.write(key, [answers.states, answers.targets, answers.items, answers.turns, *rest])
            return answers
        states, targets, items, turns, *rest = found
        return Answers(states, targets, items, turns, HiddenStates(rest[2:], rest[0], rest[1]) if rest else None)

    def _key(self, batch: Batch, *, hidden: bool) -> bytes:
        read = (batch.num_tiles, batch.turns, batch.image_token_id, batch.image_mean, batch.image_std)
        kind = f"{tuple(batch.pixels.shape)} {arithmetic(batch.pixels.device)} {hidden} {read}"
        digest = hashlib.sha256(self._teacher + kind.encode())
        digest.update(raw_bytes(batch.pixels))
        return digest.digest()
