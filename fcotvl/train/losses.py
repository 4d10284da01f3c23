"""Losses on answer tokens, in nats."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORE = -100
"""Label of every token outside the answers."""
MAX_LOGITS = 2**27
"""Logits of one model that exist at a time: half a GiB in float32."""


def answer_positions(labels: Int[Tensor, "batch seq"]) -> Int[Tensor, "answer 2"]:
    """Row and column of each position whose next token is an answer token, row by row.

    Sequences of teacher and student differ in length, but their answer tokens are the same and in the same order:
    logits picked at these positions line up.

    Raises:
        ValueError: there is no answer token, so nothing to learn.
    """
    positions = (labels[:, 1:] != IGNORE).nonzero()
    if not len(positions):
        raise ValueError("this batch has no answer token; check the labels of its turns")
    return positions


def in_chunks(
    losses: Callable[..., tuple[Float[Tensor, " answer"], ...]], *states: Tensor, vocabulary: int
) -> tuple[Float[Tensor, " answer"], ...]:
    """``losses(*states)``, for at most ``MAX_LOGITS`` logits at a time.

    If it takes several chunks, the logits of each are computed again in the backward pass instead of kept.

    Args:
        losses: from rows of ``states`` to one or more losses of each.
        states: tensors with one row for each answer token.
        vocabulary: logits of one answer token.
    """
    size = max(1, MAX_LOGITS // vocabulary)
    if len(states[0]) <= size:
        return losses(*states)
    chunks = zip(*(state.split(size) for state in states), strict=True)
    parts = [checkpoint(losses, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def distillation_kl(
    student_logits: Float[Tensor, "answer vocab"],
    teacher_logits: Float[Tensor, "answer vocab"],
    temperature: float = 1.0,
) -> Float[Tensor, " answer"]:
    """KL(teacher || student) of each answer token, zero exactly where the logits are equal.

    Computed in float32 and scaled by ``temperature**2``, which keeps gradients comparable (Hinton et al. 2015).

    Raises:
        ValueError: there is no answer token.
    """
    if not len(student_logits):
        raise ValueError("no answer token to compare; pick logits at answer_positions")
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def cross_entropy(logits: Float[Tensor, "answer vocab"], targets: Int[Tensor, " answer"]) -> Float[Tensor, " answer"]:
    """Negative log-likelihood of each answer token, in float32.

    Raises:
        ValueError: there is no answer token.
    """
    if not len(targets):
        raise ValueError("no answer token to predict; pick logits at answer_positions")
    return F.cross_entropy(logits.float(), targets, reduction="none")


def hidden_distance(
    student: Sequence[Float[Tensor, "text hidden"]], teacher: Sequence[Float[Tensor, "text hidden"]]
) -> Float[Tensor, " text"]:
    """Squared distance of each token's hidden states in units of the teacher's squared length; the mean over layers.

    Zero where they are equal, 1 where the student's are 0. After PKD (arXiv 1908.09355, section 3.2) and TinyBERT
    (arXiv 1909.10351, section 3.1). Student and teacher have the same layers here, so that no projection is learned.

    Raises:
        ValueError: the two differ in their number of layers, or there is none.
    """
    distances = [
        (ours.float() - theirs.float()).square().sum(-1) / theirs.float().square().sum(-1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    if not distances:
        raise ValueError("no hidden states to compare; ask answer_states for hidden ones")
    return torch.stack(distances).mean(0)


def text_weights(text_turns: Int[Tensor, " text"], turns: Int[Tensor, " answer"]) -> Float[Tensor, " text"]:
    """Weight of each token of a turn, all of the same: together those of its answer tokens by ``turn_weights``."""
    tokens = text_turns.bincount()
    return (turns.bincount(minlength=len(tokens)).float().sqrt() / tokens)[text_turns]


def turn_weights(turns: Int[Tensor, " answer"]) -> Float[Tensor, " answer"]:
    """Weight of each answer token: 1 / sqrt(number of answer tokens in its turn).

    Between counting all tokens alike, where a transcription drowns a short answer, and counting all turns alike
    (InternVL2.5's square averaging, arXiv 2412.05271, section 3.2).
    """
    return turns.bincount()[turns].float().rsqrt()


def item_sums(
    terms: Mapping[str, Float[Tensor, " answer"]], items: Int[Tensor, " answer"], count: int
) -> dict[str, Float[Tensor, " item"]]:
    """Each term, summed over the answer tokens of each of ``count`` items."""
    zeros = torch.zeros(count, dtype=torch.float32, device=items.device)
    return {name: zeros.index_add(0, items, term.float()) for name, term in terms.items()}
