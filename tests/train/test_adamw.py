"""The written-out AdamW against torch's own, in float64, on the same gradients."""

import pytest
import torch

from train.adamw import AdamW
from train.speed.adamw import FusedAdamW


def gradients(step: int, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Gradients from 1e-6 to 10 in size, some exactly zero."""
    generator = torch.Generator().manual_seed(step)
    sizes = [10.0 ** (-6 + 7 * i / (len(shapes) - 1)) for i in range(len(shapes))]
    made = [size * torch.randn(shape, generator=generator, dtype=torch.float64) for size, shape in zip(sizes, shapes)]
    made[0][0] = 0.0
    return made


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.6)])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.3])
def test_equals_torch(betas, eps, weight_decay):
    shapes = [(5, 4), (4,), (3, 2), (7,)]
    generator = torch.Generator().manual_seed(99)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ours, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    settings = {"lr": 0.02, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    our_optimizer, their_optimizer = AdamW(ours, **settings), torch.optim.AdamW(theirs, **settings)
    for step in range(25):
        if step == 10:  # a schedule changes the rate between steps
            our_optimizer.lr = their_optimizer.param_groups[0]["lr"] = 0.005
        for mine, other, gradient in zip(ours, theirs, gradients(step, shapes)):
            mine.grad, other.grad = gradient.clone(), gradient.clone()
        our_optimizer.step()
        their_optimizer.step()
        for mine, other, gradient in zip(ours, theirs, gradients(step, shapes)):
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=0, atol=1e-10)
            assert torch.equal(mine.grad, gradient)  # the gradient is read, not changed
    assert all((mine.detach() - begin).abs().max() > 1e-6 for mine, begin in zip(ours, start))


def test_defaults_are_those_of_the_exercise():
    optimizer = AdamW([torch.zeros(1)], lr=1e-4)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0.01)


def test_the_first_step_by_hand():
    """m_hat = g and v_hat = g^2 after one step, so p loses lr * (g / (|g| + eps) + wd * p)."""
    p = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([-4.0], dtype=torch.float64)
    AdamW(iter([p]), lr=0.1, eps=1.0, weight_decay=0.5).step()  # parameters may come from a generator
    assert p.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 + 0.1 * 4.0 / (4.0 + 1.0), abs=1e-15)


# One idea of the step each, on a single number p = 2.


def one_number(gradient: float, lr=0.1, betas=(0.9, 0.999), eps=0.0, weight_decay=0.0) -> tuple[AdamW, torch.Tensor]:
    p = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([gradient], dtype=torch.float64)
    return AdamW([p], lr, betas, eps, weight_decay), p


def test_steps_are_counted_before_the_updates(monkeypatch):
    seen = []
    monkeypatch.setattr(AdamW, "update", lambda self, *arguments: seen.append(self.steps))
    parameters = [torch.ones(2, requires_grad=True) for _ in range(2)]
    optimizer = AdamW(parameters, lr=0.1)
    for _ in range(2):
        for p in parameters:
            p.grad = torch.ones(2)
        optimizer.step()
    assert seen == [1, 1, 2, 2]


def test_the_moments_are_changed_in_place():
    optimizer, _ = one_number(-4.0)
    optimizer.step()
    assert optimizer.m[0].item() != 0 and optimizer.v[0].item() != 0


def test_the_parameter_is_changed_in_place():
    optimizer, p = one_number(-4.0)
    optimizer.step()
    assert p.item() != 2.0


def test_the_gradient_is_left_as_it_was():
    optimizer, p = one_number(-4.0, weight_decay=0.5)
    optimizer.step()
    assert p.grad.item() == -4.0


def after_two_gradients() -> AdamW:
    optimizer, p = one_number(-4.0)
    optimizer.step()
    p.grad[0] = 1.0
    optimizer.step()
    return optimizer


def test_the_first_moment_is_a_mean_of_gradients():
    assert after_two_gradients().m[0].item() == pytest.approx(0.9 * (0.1 * -4) + 0.1 * 1, abs=1e-12)


def test_the_second_moment_is_a_mean_of_squares():
    assert after_two_gradients().v[0].item() == pytest.approx(0.999 * (0.001 * 16) + 0.001 * 1, abs=1e-12)


def test_the_decay_enters_no_moment():
    optimizer, _ = one_number(-4.0, weight_decay=0.5)
    optimizer.step()
    found = optimizer.m[0].item(), optimizer.v[0].item()
    assert found == pytest.approx((0.1 * -4, 0.001 * 16), abs=1e-12)


def places(betas: tuple[float, float]) -> list[float]:
    """Where p is after each of three steps with a constant gradient."""
    optimizer, p = one_number(-4.0, betas=betas)
    return [optimizer.step() or p.item() for _ in range(3)]


def test_the_first_moment_is_corrected():
    """Of a constant gradient m_hat is the gradient, whatever beta1 is."""
    assert places((0.9, 0.999)) == pytest.approx(places((0.5, 0.999)), abs=1e-12)


def test_the_second_moment_is_corrected():
    """Of a constant gradient v_hat is its square, whatever beta2 is."""
    assert places((0.9, 0.999)) == pytest.approx(places((0.9, 0.5)), abs=1e-12)


def test_a_first_step_is_as_long_as_the_learning_rate():
    for gradient in (-4.0, 0.0005):
        optimizer, p = one_number(gradient)
        optimizer.step()
        assert abs(p.item() - 2.0) == pytest.approx(0.1, abs=1e-12)


def test_a_step_goes_against_the_gradient():
    optimizer, p = one_number(-4.0)
    optimizer.step()
    assert p.item() > 2.0


def test_eps_is_outside_the_root():
    """With beta2 = 0 nothing is corrected in v = g^2 = 16."""
    optimizer, p = one_number(-4.0, betas=(0.9, 0.0), eps=1.0)
    optimizer.step()
    assert p.item() == pytest.approx(2.0 + 0.1 * 4 / (4 + 1), abs=1e-12)


def test_eps_is_added_after_the_correction():
    optimizer, p = one_number(-4.0, eps=1.0)
    optimizer.step()
    assert p.item() == pytest.approx(2.0 + 0.1 * 4 / (4 + 1), abs=1e-12)


def test_the_decay_takes_its_share():
    """A gradient of 0 leaves the decay alone."""
    optimizer, p = one_number(0.0, eps=1.0, weight_decay=0.5)
    optimizer.step()
    assert p.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0, abs=1e-12)


def test_the_decay_is_of_the_parameter_before_the_step():
    optimizer, p = one_number(-4.0, weight_decay=0.5)
    optimizer.step()
    assert p.item() == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 + 0.1, abs=1e-12)


def test_with_matrices_only_a_vector_does_not_decay():
    parameters = [torch.ones(2, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    AdamW(parameters, lr=0.1, weight_decay=0.5, matrices_only=True).step()
    assert torch.equal(parameters[0], torch.ones(2)) and not torch.equal(parameters[1], torch.ones(2, 2))


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = AdamW([used, unused], lr=0.1)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2)) and not torch.equal(used, torch.ones(2))
    optimizer.zero_grad()
    assert used.grad is None


@pytest.mark.parametrize("matrices_only", [False, True])
@pytest.mark.parametrize("dtype, most", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_fused_the_step_is_the_same(matrices_only, dtype, most):
    """Up to rounding, over thirty steps with a rate that changes; one tensor gets a gradient now and then. Afterwards
    either goes on with the other's moments."""
    shapes = [(5, 4), (7,), (2, 3), (4,)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype) for shape in shapes]
    pair = [[p.clone().requires_grad_() for p in start] for _ in range(2)]
    settings = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3, "matrices_only": matrices_only}
    optimizers = [kind(parameters, **settings) for kind, parameters in zip((AdamW, FusedAdamW), pair)]
    for step in range(30):
        if step == 20:
            for name in ("m", "v"):
                swapped = [getattr(optimizer, name) for optimizer in reversed(optimizers)]
                for optimizer, moments in zip(optimizers, swapped):
                    setattr(optimizer, name, moments)
        for optimizer, parameters in zip(optimizers, pair):
            optimizer.lr = 0.02 / (1 + step)
            for i, (p, gradient) in enumerate(zip(parameters, gradients(step, shapes))):
                p.grad = None if i == 1 and step % 3 else gradient.to(dtype)
            optimizer.step()
        for name in ("parameters", "m", "v"):
            for a, b in zip(*(getattr(optimizer, name) for optimizer in optimizers)):
                assert (a - b).abs().max() <= most * b.abs().max()
    assert [optimizer.steps for optimizer in optimizers] == [30, 30]
