import pytest
import torch

from fcotvl.train.losses import (
    answer_positions,
    cross_entropy,
    distillation_kl,
    hidden_distance,
    item_sums,
    text_weights,
    turn_weights,
)


def test_an_answer_token_is_predicted_one_position_before_it():
    labels = torch.tensor([[-100, -100, 5, 6], [7, -100, -100, 8]])
    assert answer_positions(labels).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_a_batch_without_answer_tokens_is_an_error():
    with pytest.raises(ValueError, match="no answer token"):
        answer_positions(torch.full((2, 3), -100))
    with pytest.raises(ValueError, match="no answer token"):
        distillation_kl(torch.zeros(0, 4), torch.zeros(0, 4))
    with pytest.raises(ValueError, match="no answer token"):
        cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


def test_kl_of_a_known_pair():
    """Teacher (1/2, 1/2), student (1/4, 3/4): KL = ln 2 - ln 3 / 2."""
    student = torch.tensor([[0.25, 0.75]]).log()
    teacher = torch.tensor([[0.5, 0.5]]).log()
    expected = torch.tensor(2.0).log() - torch.tensor(3.0).log() / 2
    torch.testing.assert_close(distillation_kl(student, teacher), expected[None])


def test_kl_points_from_teacher_to_student():
    one, other = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert distillation_kl(one, other) != distillation_kl(other, one)


def test_a_temperature_keeps_gradients_comparable():
    """Near agreement the scaled KL hardly depends on the temperature (Hinton et al. 2015)."""
    teacher = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    sizes = []
    for temperature in (1.0, 4.0):
        student = torch.zeros(1, 8, requires_grad=True)
        distillation_kl(student, teacher, temperature).sum().backward()
        sizes.append(student.grad.norm())
    torch.testing.assert_close(sizes[0], sizes[1], rtol=0.05, atol=0)


def test_bfloat16_logits_are_compared_in_float32():
    student = torch.randn(3, 50).bfloat16()
    assert distillation_kl(student, student.clone()).dtype == torch.float32


def test_each_token_of_a_long_turn_counts_less():
    weights = turn_weights(torch.tensor([0, 7, 7, 7, 7]))
    assert weights.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


def test_hidden_states_are_compared_in_the_teachers_lengths():
    """By hand: of the first token 4 / 16 and 0 / 1, of the second 1 / 4 and 25 / 25."""
    teacher = [torch.tensor([[4.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])]
    student = [torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])]
    assert hidden_distance(student, teacher).tolist() == [0.125, 0.625]


def test_hidden_states_are_compared_layer_by_layer():
    states = [torch.ones(2, 3)] * 2
    with pytest.raises(ValueError, match="shorter"):
        hidden_distance(states, states[:1])
    with pytest.raises(ValueError, match="no hidden states"):
        hidden_distance([], [])


def test_hidden_states_in_bfloat16_are_compared_in_float32():
    states = torch.randn(3, 50).bfloat16()
    assert hidden_distance([states + 1], [states]).dtype == torch.float32


def test_the_tokens_of_a_turn_weigh_what_its_answer_tokens_do():
    """Two turns: nine tokens of which four are answered, and one of one."""
    turns = torch.tensor([2] * 4 + [5])
    weights = text_weights(torch.tensor([2] * 9 + [5]), turns)
    assert weights[:9].sum().item() == pytest.approx(turn_weights(turns)[:4].sum().item())
    assert weights[9] == 1


def test_items_keep_their_own_sums():
    losses = torch.tensor([1.0, 3.0, 10.0])
    assert item_sums({"loss": losses}, torch.tensor([0, 0, 2]), 3)["loss"].tolist() == [4, 0, 10]
