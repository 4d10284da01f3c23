import pytest

from fcotvl.evaluate.metrics.relaxed_strict import score as relaxed_strict


@pytest.mark.parametrize(
    ("reference", "prediction", "score"),
    [
        ("100", "105", 1),
        ("100", "95", 1),
        ("100", "105.2", 0),
        ("-100", "-104", 1),
        ("2010", "2008", 0),
        ("2010", " 2010.0 ", 1),
        ("2150", "2148", 1),
        ("50%", "0.51", 1),
        ("0", "0.0", 1),
        ("0", "0.01", 0),
        ("nan", "nan", 1),
        ("inf", "1e999", 0),
        (" Yes", "yes ", 1),
        ("1,234", "1234", 0),
    ],
)
def test_relative_to_the_reference_and_exact_for_years(reference, prediction, score):
    assert relaxed_strict(prediction, [reference]) == score
