"""Documents: forms, receipts, letters and tables."""

# ruff: noqa: PLR2004 - pixels, shares and odds explain themselves where they stand

from __future__ import annotations

from random import Random

from fcotvl.toy.render import words
from fcotvl.toy.render.canvas import Canvas, draw_facts
from fcotvl.toy.render.table import Fact, Table, Unit, draw_code, draw_date, draw_keys, draw_numbers, draw_unit


def _amount_facts(rng: Random, count: int, unit: Unit) -> list[Fact]:
    return list(draw_numbers(rng, rng.sample(words.AMOUNT_FIELDS, count), unit))


def _text_facts(rng: Random, count: int) -> list[Fact]:
    makers = [
        lambda: Fact(rng.choice(words.TEXT_FIELDS), rng.choice(words.NAMES)),
        lambda: Fact(rng.choice(words.PLACE_FIELDS), rng.choice(words.LONG)),
        lambda: Fact(rng.choice(words.CODE_FIELDS), draw_code(rng)),
        lambda: Fact(rng.choice(words.DATE_FIELDS), draw_date(rng)),
    ]
    return [make() for make in rng.sample(makers, count)]


def form(canvas: Canvas, rng: Random, density: int) -> Table:
    """Fields one below the other, names left and values right."""
    count = min(rng.randint(5, 7), density)
    texts = _text_facts(rng, min(count, max(count - 3, 0), 4))
    unit = draw_unit(rng)
    facts = texts + _amount_facts(rng, count - len(texts), unit)
    rng.shuffle(facts)
    canvas.check_split(facts)
    title = canvas.title(rng.choice(words.PAPERS), left=(4, 60))
    column = rng.randint(88, 104) if rng.random() < 0.6 else 0
    colon = rng.choice((":", ""))
    left = rng.randint(3, 12)
    for y, fact in zip(canvas.rows(count, 30, 222), facts, strict=True):
        end = canvas.text(left, y, fact.key + colon)
        canvas.text(max(left + column, end + rng.randint(10, 16)), y, fact.value)
        if colon == "":
            canvas.draw.line((left, y + 12, 215, y + 12), canvas.style.accents[0])
    return Table(title, tuple(facts), unit)


def receipt(canvas: Canvas, rng: Random, density: int) -> Table:
    """A shop's name, items with right-aligned prices, who served and when."""
    unit = Unit(*rng.choice((("$", ""), ("", ""))), rng.choice(("ones", "tenths")))
    count = min(rng.randint(3, 6), density)
    items = draw_numbers(rng, draw_keys(rng, count, 7), unit)
    lines = [*items, *(_text_facts(rng, 1) if density > count else [])]
    canvas.check_split(lines)
    shop = f"{rng.choice(words.NAMES)} {rng.choice(('Shop', 'Store', 'Cafe', 'Mart'))}"
    canvas.text(112, 14, shop, anchor="m", face=canvas.style.title_face)
    left, right = rng.randint(4, 20), rng.randint(190, 220)
    for y, fact in zip(canvas.rows(len(lines), 32, 222), lines, strict=True):
        canvas.text(left, y, fact.key)
        canvas.text(right, y, fact.value, anchor="r")
    return Table(shop, tuple(lines), unit)


def letter(canvas: Canvas, rng: Random, density: int) -> Table:
    """A short notice in sentences."""
    unit = draw_unit(rng)
    count = min(rng.randint(4, 6), density)
    facts = _text_facts(rng, 1 if count > 3 else 0)
    facts = facts + _amount_facts(rng, count - len(facts), unit)
    rng.shuffle(facts)
    canvas.check_split(facts)
    name = rng.choice(words.NAMES)
    title = f"Dear {rng.choice(('Mr', 'Ms', 'Dr'))} {name}"
    left = rng.randint(3, 14)
    ys = canvas.rows(count + 1, 2, 222)
    canvas.text(left, ys[0], title, face=canvas.style.title_face)
    lead = rng.choice(("The", "Your", "Our"))
    for y, fact in zip(ys[1:], facts, strict=True):
        canvas.text(left, y, f"{lead} {fact.key} is {fact.value}")
    return Table(title, tuple(facts), unit)


def table(canvas: Canvas, rng: Random, density: int) -> Table:
    """Two columns of names and numbers, up to twelve."""
    facts, unit, rows = draw_facts(canvas, density, rows=(3, 6), longest=4, columns=2)
    title = canvas.title(f"{rng.choice(words.TITLES)} {rng.randrange(1990, 2025)}", left=(4, 60))
    left, gap = rng.randint(3, 7), rng.randint(48, 54)
    ys = canvas.rows(rows, 30, 222)
    for index, fact in enumerate(facts):
        x, y = left + 112 * (index % 2), ys[index // 2]
        canvas.text(x, y, fact.key)
        canvas.text(x + gap, y, fact.value)
    canvas.draw.line((110, ys[0] - 10, 110, ys[-1] + 10), canvas.style.accents[0])
    return Table(title, facts, unit)


def ledger(canvas: Canvas, rng: Random, density: int) -> Table:
    """One ruled column of names and numbers with alternating bands."""
    facts, unit, _ = draw_facts(canvas, density, rows=(4, 7), longest=8)
    title = canvas.title(f"{rng.choice(words.LONG)} {rng.choice(words.TITLES)}", left=(4, 40))
    left, column = rng.randint(4, 14), rng.randint(110, 140)
    ys = canvas.rows(len(facts), 30, 222)
    for y in ys:
        canvas.draw.rectangle((left - 2, y - 11, 218, y + 11), outline=canvas.style.accents[1])
    for y, fact in zip(ys, facts, strict=True):
        canvas.text(left + 2, y, fact.key)
        canvas.text(column, y, fact.value)
    return Table(title, facts, unit)


LAYOUTS = (form, receipt, letter, table, ledger)
