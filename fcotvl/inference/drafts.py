"""Guesses at replies, whose tokens the model checks several at a time: speculative decoding with given drafts.

Source: Leviathan et al. 2023, arXiv 2211.17192, for greedy decoding. What they take from a small model is given here:
checkpoints and baselines of one teacher mostly reply as the one that was asked before.
"""

from collections.abc import Sequence

MOST = 8
"""Tokens that are checked at a time. More would pad the rows of a batch whose guesses are short or wrong."""
SHIFTS = (0, 1, -1, 2, -2)
"""By how many tokens a guess may be longer or shorter than the reply up to a place; the nearest first."""


def follow(draft: Sequence[int], reply: Sequence[int]) -> Sequence[int]:
    """What ``draft`` says behind ``reply``; nothing where the last words of the reply are not in it.

    Args:
        draft: tokens of the guess.
        reply: tokens so far, one at least.
    """
    for shift in SHIFTS:
        place = len(reply) + shift
        alike = 2 if shift else 1  # one token may be found elsewhere by chance
        if place >= alike and list(draft[place - alike : place]) == list(reply[-alike:]):
            return draft[place:]
    return ()


def usual_length(proposals: Sequence[Sequence[int]]) -> int:
    """How many tokens to check of each proposal: half of the proposals have as many."""
    return min(MOST, sorted(map(len, proposals))[len(proposals) // 2])
