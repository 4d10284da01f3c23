from fcotvl.evaluate.metrics.anls import score as anls


def test_white_space_inside_is_collapsed_for_the_distance_but_counts_for_the_length():
    assert anls("a  b", ["a c"]) == 1 - 1 / 4


def test_the_threshold_is_applied_after_the_best_reference_is_chosen():
    assert anls("abxy", ["wxyz", "abcd"]) == 0.5
