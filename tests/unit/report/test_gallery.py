"""Cases of the gallery are drawn by chance, balanced, and only from pictures that anyone may show."""

import base64
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fcotvl.core.records import Record, Turn
from fcotvl.report.gallery import LICENCES, PICTURE_BYTES, embedded, make_gallery, scored_replies
from fcotvl.report.page import render_page

BENCHMARKS = ("docvqa", "chartqa", "infovqa")
HEADLINES = {"docvqa": "anls", "chartqa": "relaxed_internvl", "infovqa": "anls"}


def noise(width=24, height=16, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def record(benchmark, number, licence="Apache-2.0", picture=None):
    file = io.BytesIO()
    (picture or noise(seed=number)).save(file, "PNG")
    kind = ("extractive", "reason")[number % 2]
    turn = Turn(f"{benchmark}-{number}-q", f"What is {number} & what is not?", ("seven", "7"), kind)
    width, height = (picture or noise()).size
    return Record(
        f"{benchmark}-{number}", "some/source", licence, "test", file.getvalue(), width, height, "0" * 64, (turn,)
    )


def records(count=16, **licences):
    return {name: [record(name, i, licences.get(name, "Apache-2.0")) for i in range(count)] for name in BENCHMARKS}


def tables(held):
    """Teacher and student answer every question, the student every third one wrongly."""
    rows = [
        {
            "system": system,
            "benchmark": name,
            "prompt": prompt,
            "kind": turn.kind,
            "image_id": one.id,
            "question_id": turn.id,
            "prediction": "Because 3 + 4.\nAnswer: 7" if prompt == "cot" else "7",
            "score": float(system == "teacher" or number // 2 % 3 > 0),
        }
        for name, found in held.items()
        for number, one in enumerate(found)
        for turn in one.turns
        for prompt in ("direct", "cot")
        for system in ("teacher", "student", "fastv-r0.5")
    ]
    table = pd.DataFrame(rows)
    scores = [table.assign(metric=table["benchmark"].map(HEADLINES)), table.assign(metric="exact_match", score=0.5)]
    return table.drop(columns="score"), pd.concat(scores).drop(columns="prediction")


def made(held, order=None, **other):
    predictions, scores = tables(held)
    if order is not None:
        predictions = predictions.sample(frac=1, random_state=order)
    replies = scored_replies(predictions, scores, HEADLINES)
    return make_gallery(replies, held.__getitem__, student="student", tiles=lambda name, one: 3, **other)


def test_cases_are_one_of_each_benchmark_kind_prompt_and_outcome():
    gallery = made(records())
    strata = Counter((case.benchmark, case.kind, case.prompt, case.outcome) for case in gallery.cases)
    assert len(gallery.cases) == len(strata) == 24
    assert {outcome for *_, outcome in strata} == {"alike", "teacher"}
    assert (gallery.drawn_from, gallery.withheld) == (3 * 16 * 2, {})


def test_benchmarks_share_a_smaller_gallery():
    assert Counter(case.benchmark for case in made(records(), count=7).cases) == dict.fromkeys(BENCHMARKS, 2)
    assert len(made(records(), count=2).cases) == 2


def test_the_same_cases_are_drawn_whatever_the_order_of_the_rows():
    def drawn(gallery):
        return {(case.benchmark, case.prompt, case.question, case.picture) for case in gallery.cases}

    assert drawn(made(records(), order=1)) == drawn(made(records(), order=2))


def test_a_case_has_the_question_the_references_and_each_systems_reply():
    case = next(case for case in made(records()).cases if case.prompt == "cot" and case.outcome == "teacher")
    assert case.references == ("seven", "7")
    assert (case.size, case.tiles, case.source, case.licence) == ((24, 16), 3, "some/source", "Apache-2.0")
    assert set(case.answers) == {"teacher", "student", "fastv-r0.5"}
    answer = case.answers["student"]
    assert (answer.final, answer.reasons, answer.score) == ("7", "Because 3 + 4.", 0.0)
    assert case.answers["teacher"].score == 1.0
    direct = next(case for case in made(records()).cases if case.prompt == "direct")
    assert (direct.answers["teacher"].final, direct.answers["teacher"].reasons) == ("7", "")


def test_a_picture_that_not_everyone_may_show_is_counted_and_left_out():
    gallery = made(records(docvqa="RRC terms, research", infovqa="publishers' copyright, research"))
    assert {case.benchmark for case in gallery.cases} == {"chartqa"}
    assert len(gallery.cases) == 24
    assert gallery.withheld == {"RRC terms, research": 32, "publishers' copyright, research": 32}
    assert made(records(**dict.fromkeys(BENCHMARKS, "GPL-3.0"))).cases == ()


def test_a_question_that_is_not_among_the_records_is_left_out():
    held = records()
    predictions, scores = tables(held)
    replies = scored_replies(predictions, scores, HEADLINES)
    gallery = make_gallery(replies, lambda name: held[name][:4], student="student", tiles=lambda name, one: 1)
    assert gallery.withheld == {"unknown": 3 * 12 * 2}


def test_licences_for_code_databases_and_research_do_not_count():
    assert not LICENCES & {"GPL-3.0", "ODC-BY", "research and education", "RRC terms, research"}


def test_a_small_picture_is_embedded_as_it_is():
    address = embedded(noise())
    kind, _, text = address.partition(",")
    assert kind == "data:image/webp;base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
    assert decoded.tobytes() == noise().tobytes()


@pytest.mark.parametrize("size", [(1700, 2200), (4000, 300), (448, 448)])
def test_a_large_picture_fits_its_share_of_the_page(size):
    address = embedded(noise(*size))
    content = base64.b64decode(address.partition(",")[2])
    assert len(content) <= PICTURE_BYTES
    assert max(Image.open(io.BytesIO(content)).size) <= 448


@pytest.fixture(scope="module")
def page(report):
    """A page with the largest pictures that there can be."""
    held = {name: [record(name, i, picture=noise(448, 448, i)) for i in range(8)] for name in BENCHMARKS}
    gallery = made(held)
    cases = tuple(
        replace(case, answers={"shapley": case.answers["student"], **case.answers}, outcome="student")
        for case in gallery.cases
    )
    return render_page(replace(report, gallery=replace(gallery, cases=cases, withheld={"GPL-3.0": 1234})), [], {})


def test_a_page_with_a_full_gallery_is_small_enough(page):
    assert page.count('<article class="case"') == 24
    assert len(page.encode()) < 3_000_000


def test_the_page_shows_replies_tokens_and_what_cases_are_filtered_by(page):
    assert "24 of 48 cases" in page
    assert "1,234 cases (GPL-3.0)." in page
    case = page[page.index('<article class="case"') : page.index("</article>", page.index('<article class="case"'))]
    assert "&amp; what is not?" in case
    assert "Reference: <strong>seven / 7</strong>" in case
    assert '>Teacher</th><td data-label="Tokens">192</td>' in case  # three tiles of 64
    assert '>FastV, 50 % removed</th><td data-label="Tokens">96</td>' in case
    for name in ("benchmark", "kind", "prompt", "outcome"):
        values = page[page.index(f'<select name="{name}">') :].partition("</select>")[0]
        assert f'data-{name}="' in case
        value = case.partition(f'data-{name}="')[2].partition('"')[0]
        assert f'<option value="{value}">' in values


def test_a_page_without_a_case_says_why(report):
    gallery = made(records(**dict.fromkeys(BENCHMARKS, "GPL-3.0")))
    text = render_page(replace(report, gallery=gallery), [], {})
    assert "96 cases (GPL-3.0)." in text
    assert '<article class="case"' not in text
    assert 'class="filters"' not in text
    assert 'id="gallery"' not in render_page(report, [], {})
