"""What a folder of modules offers by name, and what a wrong name or option is answered with."""

import sys

import pytest

from fcotvl.core.errors import ParamsError
from fcotvl.core.registry import Registry


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A registry over two modules and a helper, outside the package."""
    folder = tmp_path / "shapes_for_the_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "unit_square.py").write_text("def area(side, *, scale: int = 1, name=0): return scale * side**2\n")
    (folder / "circle.py").write_text("from ._pi import PI\ndef area(r): return PI * r**2\n")
    (folder / "_pi.py").write_text("PI = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Registry, "folder", folder)
    yield Registry(folder.name, "area", noun="shape")
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_files_are_found_by_name_and_helpers_are_skipped(shapes):
    assert shapes.available() == ("circle", "unit-square")
    assert shapes.get("unit-square")(2) == 4
    assert shapes.module("circle").PI == 3


def test_names_are_read_without_importing_what_they_name(shapes):
    assert shapes.stem("unit-square") == "unit_square"
    assert not [name for name in sys.modules if name.startswith(shapes.package)]


def test_the_separator_is_that_of_the_registry(shapes):
    registry = Registry(shapes.package, "area", noun="shape", separator="_")
    assert registry.available() == ("circle", "unit_square")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unit_square", "no shape 'unit_square'; did you mean unit-square?"),
        ("cirlce", "no shape 'cirlce'; did you mean circle?"),
        ("pi", "no shape 'pi'; there are circle, unit-square"),
        ("_pi", "no shape '_pi'; there are circle, unit-square"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(shapes, name, message):
    with pytest.raises(ParamsError) as caught:
        shapes.get(name)
    assert str(caught.value) == message


def test_wrong_options_are_one_line(shapes):
    assert shapes.call("unit-square", 2, options={"scale": 3}) == 12
    with pytest.raises(ParamsError) as caught:
        shapes.call("unit-square", 2, options={"scael": 3})
    assert "shape 'unit-square': got an unexpected keyword argument 'scael'" in str(caught.value)
    assert str(caught.value).endswith("; correct its options")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", ["3", 2.5, True, None])
def test_an_option_of_another_type_is_one_line(shapes, scale):
    with pytest.raises(ParamsError) as caught:
        shapes.call("unit-square", 2, options={"scale": scale, "name": object})
    assert str(caught.value) == f"shape 'unit-square': scale is {scale!r}. Input should be a valid integer"


def test_an_error_inside_a_member_is_not_taken_for_a_wrong_option(shapes):
    with pytest.raises(TypeError, match="unsupported operand"):
        shapes.call("unit-square", "two", options={})
