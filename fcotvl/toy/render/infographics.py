"""Infographics: cards with icons, timelines, rankings and panels with big numbers."""

# ruff: noqa: PLR2004 - pixels, shares and odds explain themselves where they stand

from random import Random

from fcotvl.toy.render import words
from fcotvl.toy.render.canvas import Canvas, Colour, Pixels, draw_facts
from fcotvl.toy.render.table import Table, Unit


def _title(canvas: Canvas, rng: Random) -> str:
    return canvas.title(f"{rng.choice(words.LONG)} {rng.choice(words.TITLES)}", left=(4, 50))


def _icon(canvas: Canvas, rng: Random, centre: tuple[Pixels, Pixels], colour: Colour) -> None:
    (x, y), r = centre, 9
    shape = rng.randrange(4)
    if shape == 0:
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), colour)
    elif shape == 1:
        canvas.draw.rectangle((x - r, y - r, x + r, y + r), colour)
    elif shape == 2:
        canvas.draw.polygon(((x, y - r), (x + r, y + r), (x - r, y + r)), colour)
    else:
        canvas.draw.polygon(((x, y - r), (x + r, y), (x, y + r), (x - r, y)), colour)


def cards(canvas: Canvas, rng: Random, density: int) -> Table:
    """A grid of cards: icon and number above a caption."""
    facts, unit, rows = draw_facts(canvas, density, rows=(2, 3), longest=8, columns=2)
    title = _title(canvas, rng)
    height = 192 / rows
    for index, fact in enumerate(facts):
        x, y = 4 + 110 * (index % 2), 28 + height * (index // 2)
        colour = canvas.style.accents[index]
        canvas.draw.rounded_rectangle((x, y, x + 106, y + height - 4), 8, outline=colour, width=2)
        middle = y + height / 2
        _icon(canvas, rng, (x + 20, middle - 14), colour)
        canvas.text(x + 36, middle - 13, fact.value, size=canvas.style.size + rng.randint(0, 3))
        canvas.text(x + 10, middle + 13, fact.key)
    return Table(title, facts, unit)


def timeline(canvas: Canvas, rng: Random, density: int) -> Table:
    """Years along a vertical line."""
    years = Unit("", "", "year")
    facts, unit, _ = draw_facts(canvas, density, rows=(4, 6), longest=8, unit=years)
    facts = tuple(sorted(facts, key=lambda fact: fact.amount or 0))
    title = _title(canvas, rng)
    x = rng.randint(70, 90)
    years_left = rng.random() < 0.7
    ys = canvas.rows(len(facts), 28, 222)
    canvas.draw.line((x, ys[0], x, ys[-1]), canvas.style.accents[0], 3)
    for y, fact in zip(ys, facts, strict=True):
        canvas.draw.ellipse((x - 6, y - 6, x + 6, y + 6), canvas.style.accents[1])
        left, right = (fact.value, fact.key) if years_left else (fact.key, fact.value)
        canvas.text(x - 12, y, left, anchor="r")
        canvas.text(x + 14, y, right)
    return Table(title, facts, unit)


def ranking(canvas: Canvas, rng: Random, density: int) -> Table:
    """Ranks 1, 2, 3, ... with names and numbers in descending order."""
    facts, unit, _ = draw_facts(canvas, density, rows=(4, 7), longest=8)
    facts = tuple(sorted(facts, key=lambda fact: -(fact.amount or 0)))
    title = _title(canvas, rng)
    column = rng.randint(130, 150)
    for rank, (y, fact) in enumerate(zip(canvas.rows(len(facts), 28, 222), facts, strict=True)):
        canvas.draw.ellipse((6, y - 11, 28, y + 11), outline=canvas.style.accents[rank], width=2)
        canvas.text(17, y, str(rank + 1), anchor="m")
        canvas.text(36, y, fact.key)
        canvas.text(column, y, fact.value)
    return Table(title, facts, unit)


def big_numbers(canvas: Canvas, rng: Random, density: int) -> Table:
    """Coloured bands, each with one big number and its caption."""
    facts, unit, _ = draw_facts(canvas, density, rows=(3, 5), longest=8)
    title = _title(canvas, rng)
    height = 194 / len(facts)
    left_first = rng.random() < 0.5
    for index, fact in enumerate(facts):
        top = 28 + height * index
        colour = canvas.style.accents[index]
        canvas.draw.rectangle((0, top, 223, top + 4), colour)
        size = canvas.style.size + rng.randint(2, 6)
        y = top + height / 2 + 2
        if left_first:
            canvas.text(10, y, fact.value, size=size)
            canvas.text(100, y, fact.key)
        else:
            canvas.text(10, y, fact.key)
            canvas.text(120, y, fact.value, size=size)
    return Table(title, facts, unit)


def tiles(canvas: Canvas, rng: Random, density: int) -> Table:
    """A dense grid of small tiles, caption above number, up to twelve."""
    facts, unit, rows = draw_facts(canvas, density, rows=(2, 4), longest=4, columns=3)
    title = canvas.title(rng.choice(words.TITLES), left=(4, 100))
    height = 194 / rows
    for index, fact in enumerate(facts):
        x, y = 4 + 74 * (index % 3), 28 + height * (index // 3)
        colour = canvas.style.accents[index % 10]
        canvas.draw.rectangle((x, y, x + 68, y + height - 4), outline=colour)
        canvas.text(x + 8, y + height / 2 - 13, fact.key)
        canvas.text(x + 8, y + height / 2 + 11, fact.value)
    return Table(title, facts, unit)


LAYOUTS = (cards, timeline, ranking, big_numbers, tiles)
