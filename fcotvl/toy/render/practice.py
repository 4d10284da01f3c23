"""Practice pages full of words, numbers and codes: they train reading, not layouts."""

# ruff: noqa: PLR2004 - pixels, shares and odds explain themselves where they stand

from random import Random

from fcotvl.toy.render import words
from fcotvl.toy.render.canvas import SIDE, Canvas, RedrawError
from fcotvl.toy.render.table import draw_code, draw_date, draw_unit

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MARKS = "$%.:-"
CHARACTERS = "0123456789" + LETTERS + MARKS
"""All characters that the renderer draws."""
_WORDS = (
    words.SHORT + words.LONG + words.NAMES + words.TITLES + words.PAPERS + words.MONTHS
    + words.AMOUNT_FIELDS + words.CODE_FIELDS + words.DATE_FIELDS + words.TEXT_FIELDS
    + ("Dear", "Your", "The", "Our", "is", "Mr", "Ms", "Dr", "Shop", "Store", "Cafe", "Mart")
)  # fmt: skip


def _piece(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(_WORDS) + rng.choice(("", "", ":"))
    if kind < 0.7:
        return draw_unit(rng).write(rng.randrange(100))
    if kind < 0.8:
        return rng.choice((draw_code, draw_date))(rng)
    if kind < 0.85:
        return str(rng.randrange(1900, 2025))
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, 7)))


def practice_page(index: int, seed: int) -> Canvas:
    """Draw page ``index``: about eight lines of unrelated words and numbers."""
    rng = Random(f"practice-{seed}-{index}")  # noqa: S311 - pictures, not secrets
    canvas = Canvas(rng, lambda _: True)
    y = rng.uniform(8, 20)
    while y < 216:
        size = rng.choice((0, 0, 0, 2, 4, 6)) + canvas.style.size
        if rng.random() < 0.15:
            canvas.draw.line((0, y + 13, SIDE, y + 13), rng.choice(canvas.style.accents), 2)
        x = rng.uniform(2, 14)
        while x < 200:
            try:
                x = canvas.text(x, y, _piece(rng), size=size) + rng.uniform(6, 12)
            except RedrawError:
                x += 12
        y += rng.uniform(20, 27) + (size - canvas.style.size)
    return canvas
