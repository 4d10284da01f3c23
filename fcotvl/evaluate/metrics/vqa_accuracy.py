"""VQA accuracy over the answers of several people: the metric of TextVQA and VQAv2.

Answers are normalised as by the ``EvalAIAnswerProcessor`` of
https://github.com/facebookresearch/mmf/blob/c46b3b3391275b4181567db80943473a89ab98ab/pythia/tasks/processors.py#L897,
which InternVL's ``textvqa_eval.py`` (239ba6a2) and lmms-eval use too.
"""

import re
from collections import Counter
from collections.abc import Sequence

from fcotvl.evaluate.metrics import require

ENOUGH = 3
"""Others who must have given an answer for it to count in full."""
PUNCTUATION = ';/[]"{}()=+\\_->@<`!'
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = 32
"""The original removes no more: a flag stands where ``re.sub`` takes a count."""
ARTICLES = {"a", "an", "the"}
NUMBERS = "zero one two three four five six seven eight nine ten"
CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've"
)
WORDS = (
    {
        word[:place] + word[place + 1 :]: word
        for word in CONTRACTED.split()
        for place, sign in enumerate(word)
        if sign == "'"
    }
    | {word: str(value) for value, word in enumerate(NUMBERS.split())}
    | {"none": "0", "somebody'd": "somebodyd"}
)
"""What stands for a word: for one of ``CONTRACTED`` without one of its apostrophes, that one; for a number, digits."""


def score(prediction: str, references: Sequence[str]) -> float:
    """How many of those asked agree with the prediction; 1 from four of ten on.

    The mean, over all but one of the answers each time, of matches / 3, at most 1. Each answer counts as a vote, so
    equal ones must not be merged. VQAv2's own script compares answers as they stand where all ten are equal; this one
    normalises them then too, as InternVL's does.

    Raises:
        ValueError: there is no answer, so there is no score.
    """
    require(references)
    total = len(references)
    matches = Counter(map(normal, references))[normal(prediction)]
    with_one_less = matches * min(1.0, (matches - 1) / ENOUGH)
    return (with_one_less + (total - matches) * min(1.0, matches / ENOUGH)) / total


def normal(answer: str) -> str:
    """Lower case, digits for numbers, contractions with their apostrophes, without articles and punctuation."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    spaced = text
    for sign in PUNCTUATION:  # one beside a space anywhere joins its neighbours everywhere; another keeps them apart
        text = text.replace(sign, "" if f"{sign} " in spaced or f" {sign}" in spaced else " ")
    text = PERIOD.sub("", text, count=MOST_PERIODS)
    return " ".join(WORDS.get(word, word) for word in text.split() if word not in ARTICLES)
