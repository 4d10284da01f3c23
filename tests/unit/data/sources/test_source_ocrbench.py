"""OCRBench: answers as text or list, several questions an image, images that are not there."""

from fcotvl.data.decoding import Opening, opened
from fcotvl.data.lazy_records import Quarantined
from fcotvl.data.sources.ocrbench import read
from tests.support.datasets import needs_realdata, realdata, request, write_json, write_picture


def row(number, answers, path="ChartQA/a.png"):
    return {"id": number, "image_path": path, "question": "Who?", "answers": answers}


def test_answers_may_be_text_or_list(tmp_path):
    rows = [row(1, "Ted Baker\n"), row(2, ["5", "5.0"]), row(3, 5), row(4, "x", "../../x.png")]
    write_json(tmp_path / "OCRBench/OCRBench.json", rows)
    write_picture(tmp_path / "OCRBench/OCRBench_Images/ChartQA/a.png", 1)
    third, fourth, draft = read(request(tmp_path))
    assert [turn.answers for turn in draft.turns] == [("Ted Baker",), ("5", "5.0")]
    assert isinstance(third, Quarantined)
    assert "leaves" in fourth.reason


@needs_realdata
def test_the_real_sample_has_the_counts_of_its_page():
    drafts = list(read(request(realdata())))
    assert (len(drafts), sum(len(draft.turns) for draft in drafts)) == (38, 59)


@needs_realdata
def test_missing_images_are_set_aside_one_by_one():
    drafts = list(read(request(realdata()), annotations="OCRBench_missing_images.json"))
    assert sum(len(draft.turns) for draft in drafts) == 25
    results = list(opened(drafts, Opening("test", "MIT", 10**7, is_hashed=False)))
    assert len(results) == len(drafts)
    assert all(isinstance(result, Quarantined) for result in results)
