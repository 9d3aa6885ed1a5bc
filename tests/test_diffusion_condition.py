"""Why one element for a thousand steps rounds as it does: condition numbers, by exact numbers."""

import functools
import math
from fractions import Fraction

import pytest
import torch

from manifold_ae import diffusion
from manifold_ae.diffusion import Schedule, exact, samplers

SCHEDULES = {
    "linear": Schedule.linear(1000),
    "scaled-linear": Schedule.scaled_linear(1000),
    "cosine": Schedule.cosine(1000),
}
EPS = torch.finfo(torch.float64).eps


@functools.cache
def chain_of(name: str, count: int = 2, n: int = 2) -> diffusion.Chain:
    schedule = SCHEDULES[name]
    generator = torch.Generator().manual_seed(0)
    means, x = torch.randn(2, count, n, generator=generator, dtype=torch.float64)
    denoiser = exact.mixture(means, torch.full((count, n), 0.2), schedule)
    return samplers.ddim_chain(denoiser, schedule, x)


def exactly(elements: torch.Tensor) -> tuple[Fraction, list[Fraction]]:
    """The product of one chain's elements ``(K, n + 1)`` without any rounding."""
    scale, moved = Fraction(1), [Fraction(0)] * (elements.shape[-1] - 1)
    for s, *b in elements.tolist():
        scale *= Fraction(s)
        moved = [Fraction(s) * m + Fraction(c) for m, c in zip(moved, b, strict=True)]
    return scale, moved


def acted(scale: Fraction, moved: list[Fraction], x: torch.Tensor) -> list[Fraction]:
    return [scale * Fraction(c) + m for c, m in zip(x.tolist(), moved, strict=True)]


def error(found: torch.Tensor | list[Fraction], true: list[Fraction]) -> float:
    """Relative to the size of the true vector."""
    values = found.tolist() if isinstance(found, torch.Tensor) else found
    gap = math.sqrt(sum(float(Fraction(a) - b) ** 2 for a, b in zip(values, true, strict=True)))
    return gap / math.sqrt(sum(float(b) ** 2 for b in true))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_error_of_one_element_is_its_condition_number_times_a_rounding(name):
    """Against the product of the same elements in rational numbers."""
    chain = chain_of(name)
    kappa = chain.condition
    assert torch.equal(kappa, diffusion.condition(chain.elements, chain.start))
    one = chain.group.act(chain.element, chain.start)
    for k in range(len(chain.start)):
        g, x = chain.elements[k], chain.start[k]
        whole = exactly(g)
        true = acted(*whole, x)
        bound = 8 * EPS * kappa[k].item()
        assert error(one[k], true) <= bound
        # The chain itself, step by step, is no nearer: its early roundings are enlarged as well.
        assert error(chain.end[k], true) <= bound


def test_one_rounding_of_the_exact_element_costs_as_much():
    """The product in rational numbers, rounded once and applied exactly: no order of sums helps."""
    chain = chain_of("cosine")
    assert chain.element[0, 0] > 1e4 and chain.condition.min() > 1e4
    for k, kappa in enumerate(chain.condition.tolist()):
        scale, moved = exactly(chain.elements[k])
        rounded = Fraction(float(scale)), [Fraction(float(b)) for b in moved]
        true = acted(scale, moved, chain.start[k])
        cost = error(acted(*rounded, chain.start[k]), true) / (EPS * kappa)
        assert 0.01 < cost < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_way_back_is_well_conditioned(name):
    """The inverse chain as one element returns to the noise to 10⁻¹² on every schedule."""
    chain = chain_of(name)
    back = chain.inverse()
    assert back.condition.max() < 20
    start = back.group.act(back.element, back.start)
    assert (start - chain.start).abs().max() <= 1e-12


def test_a_condition_number_is_at_least_one_and_never_nan(dtype, device):
    still = torch.tensor([[1.0, 0.0]], dtype=dtype, device=device).expand(3, 5, 1, 2)
    x = torch.zeros(3, 5, 1, dtype=dtype, device=device)
    assert torch.equal(diffusion.condition(still, x), torch.ones_like(x[..., 0]))
    opposite = torch.tensor([[2.0, -2.0]], dtype=dtype, device=device)
    assert diffusion.condition(opposite, torch.ones(1, dtype=dtype, device=device)) == math.inf
    noise = torch.randn(4, 9, 3, dtype=dtype, device=device)
    noise[..., 0] = noise[..., 0].exp()
    found = diffusion.condition(noise, torch.randn(4, 2, dtype=dtype, device=device))
    assert found.shape == (4,) and (found >= 1).all() and found.dtype == dtype
    with pytest.raises(ValueError, match=r"elements has shape \(3,\)"):
        diffusion.condition(torch.ones(3), torch.ones(2))
