"""The registry of readers: it finds its folder, and explains a wrong name or option."""

import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.data import sources
from tests.support.datasets import request


def test_the_readers_of_the_folder_are_available():
    assert {"chartqa", "rendered"} <= set(sources.available())
    assert list(sources.available()) == sorted(sources.available())


def test_an_unknown_reader_is_answered_with_a_suggestion(tmp_path):
    with pytest.raises(ParamsError, match=r"no reader 'chart'; did you mean chartqa\?"):
        sources.read("chart", request(tmp_path), {})


@pytest.mark.parametrize("name", sources.available())
def test_an_unknown_option_is_refused(name, tmp_path):
    with pytest.raises(ParamsError, match=f"reader {name!r}"):
        sources.read(name, request(tmp_path), {"colour": "red"})
