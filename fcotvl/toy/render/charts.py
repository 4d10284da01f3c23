"""Charts: vertical and horizontal bars, pies, lines and paired panels, all with labelled values."""

# ruff: noqa: PLR2004 - pixels, shares and odds explain themselves where they stand

from __future__ import annotations

from random import Random

from fcotvl.toy.render import words
from fcotvl.toy.render.canvas import Canvas, draw_facts
from fcotvl.toy.render.table import Fact, Table


def _title(canvas: Canvas, rng: Random) -> str:
    text = rng.choice(words.TITLES)
    if rng.random() < 0.5:
        text = f"{text} {rng.randrange(1990, 2025)}"
    return canvas.title(text, left=(6, 90))


def _height(fact: Fact, full: int) -> float:
    return full * (0.1 + 0.9 * (fact.amount or 0) / 100)


def vertical_bars(canvas: Canvas, rng: Random, density: int) -> Table:
    """Columns with the label below and the value above."""
    facts, unit, _ = draw_facts(canvas, density, rows=(3, 5), longest=4)
    title = _title(canvas, rng)
    base, step = rng.randint(186, 196), 216 / len(facts)
    one_colour = rng.random() < 0.5
    for index, fact in enumerate(facts):
        middle, width = 4 + step * (index + 0.5), step * rng.uniform(0.3, 0.35)
        top = base - _height(fact, 120)
        colour = canvas.style.accents[0 if one_colour else index]
        canvas.draw.rectangle((middle - width, top, middle + width, base), colour)
        canvas.text(middle, base + 16, fact.key, anchor="m")
        canvas.text(middle, canvas.snap(top - 20), fact.value, anchor="m")
    canvas.draw.line((4, base, 220, base), canvas.style.ink)
    return Table(title, facts, unit)


def horizontal_bars(canvas: Canvas, rng: Random, density: int) -> Table:
    """Bars with the label left and the value at their end."""
    facts, unit, _ = draw_facts(canvas, density, rows=(4, 7), longest=7)
    title = _title(canvas, rng)
    start = rng.randint(82, 92)
    one_colour = rng.random() < 0.5
    for index, (y, fact) in enumerate(zip(canvas.rows(len(facts), 28, 222), facts, strict=True)):
        length = _height(fact, 80)
        colour = canvas.style.accents[0 if one_colour else index]
        canvas.draw.rectangle((start, y - 7, start + length, y + 7), colour)
        canvas.text(start - 6, y, fact.key, anchor="r")
        canvas.text(start + length + 5, y, fact.value)
    return Table(title, facts, unit)


def pie(canvas: Canvas, rng: Random, density: int) -> Table:
    """A pie or a ring with a legend that carries the values."""
    facts, unit, _ = draw_facts(canvas, density, rows=(3, 6), longest=5)
    title = _title(canvas, rng)
    radius, right = rng.randint(34, 44), rng.random() < 0.5
    x, y = (174 if right else 50), rng.randint(90, 170)
    box = (x - radius, y - radius, x + radius, y + radius)
    total, angle = sum(fact.amount or 0 for fact in facts), rng.uniform(0, 360)
    for index, fact in enumerate(facts):
        sector = 360 * (fact.amount or 0) / total
        canvas.draw.pieslice(box, angle, angle + sector, canvas.style.accents[index])
        angle += sector
    if rng.random() < 0.5:
        canvas.draw.ellipse((x - 18, y - 18, x + 18, y + 18), canvas.style.paper)
    left = 4 if right else 100
    for index, (line, fact) in enumerate(zip(canvas.rows(len(facts), 28, 222), facts, strict=True)):
        swatch = (left, line - 5, left + 9, line + 5)
        canvas.draw.rectangle(swatch, canvas.style.accents[index])
        end = canvas.text(left + 14, line, fact.key)
        canvas.text(end + rng.randint(8, 12), line, fact.value)
    return Table(title, facts, unit)


def line(canvas: Canvas, rng: Random, density: int) -> Table:
    """Points joined by a line, labels on the axis and values above the points."""
    facts, unit, _ = draw_facts(canvas, density, rows=(3, 5), longest=4)
    title = _title(canvas, rng)
    base, step = rng.randint(188, 198), 212 / len(facts)
    points = [(6 + step * (index + 0.5), base - 14 - _height(fact, 110)) for index, fact in enumerate(facts)]
    canvas.draw.line((4, base, 220, base), canvas.style.ink)
    if len(facts) > 1:
        canvas.draw.line(points, canvas.style.accents[0], width=2)
    for (x, y), fact in zip(points, facts, strict=True):
        canvas.draw.ellipse((x - 4, y - 4, x + 4, y + 4), canvas.style.accents[1])
        canvas.text(x, base + 16, fact.key, anchor="m")
        above = canvas.snap(y - 20)
        width = 7 * len(fact.value)
        canvas.draw.rectangle((x - width, above - 8, x + width, above + 8), canvas.style.paper)
        canvas.text(x, above, fact.value, anchor="m")
    return Table(title, facts, unit)


def panels(canvas: Canvas, rng: Random, density: int) -> Table:
    """Two panels of thin bars side by side, up to twelve values."""
    facts, unit, rows = draw_facts(canvas, density, rows=(3, 6), longest=4, columns=2)
    title = _title(canvas, rng)
    gap = rng.randint(48, 54)
    ys = canvas.rows(rows, 28, 218)
    for index, fact in enumerate(facts):
        x, y = 4 + 112 * (index // rows), ys[index % rows]
        canvas.text(x, y, fact.key)
        canvas.text(x + gap, y, fact.value)
        length = _height(fact, 100)
        canvas.draw.line((x, y + 11, x + length, y + 11), canvas.style.accents[index // rows], 2)
    return Table(title, facts, unit)


LAYOUTS = (vertical_bars, horizontal_bars, pie, line, panels)
