import torch
from hypothesis import given
from hypothesis import strategies as st

from fcotvl.train.losses import cross_entropy, distillation_kl, hidden_distance

seeds = st.integers(0, 2**31)
temperatures = st.floats(0.25, 8)


def logits(seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(5, 17, generator=torch.Generator().manual_seed(seed)) * scale


@given(seeds, temperatures)
def test_kl_is_exactly_zero_where_logits_are_equal(seed, temperature):
    one = logits(seed)
    assert distillation_kl(one, one.clone(), temperature).eq(0).all()


@given(seeds, temperatures)
def test_kl_is_never_negative(seed, temperature):
    kl = distillation_kl(logits(seed), logits(seed + 1), temperature)
    assert (kl >= -1e-5).all()


@given(seeds, st.floats(-5, 5))
def test_kl_does_not_see_a_constant_added_to_all_logits(seed, constant):
    one, other = logits(seed), logits(seed + 1)
    torch.testing.assert_close(
        distillation_kl(one + constant, other), distillation_kl(one, other), rtol=1e-3, atol=1e-4
    )


@given(seeds)
def test_cross_entropy_is_kl_from_a_sure_teacher(seed):
    """Of a teacher that puts everything on one token, nothing but that token is learned."""
    student, targets = logits(seed), torch.arange(5)
    teacher = torch.full((5, 17), -1e4)
    teacher[torch.arange(5), targets] = 0.0
    torch.testing.assert_close(distillation_kl(student, teacher), cross_entropy(student, targets))


@given(seeds, st.floats(0.01, 100))
def test_hidden_distance_does_not_see_how_long_the_states_of_both_are(seed, scale):
    one, other = logits(seed), logits(seed + 1)
    distance = hidden_distance([one], [other])
    torch.testing.assert_close(hidden_distance([scale * one], [scale * other]), distance, rtol=1e-4, atol=1e-6)
    assert (distance > 0).all()
    assert hidden_distance([other.clone(), one], [other, one]).eq(0).all()
