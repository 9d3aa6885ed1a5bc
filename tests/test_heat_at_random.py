r"""Heat kernels at points and times drawn at random, against routes of their own.

Hypothesis draws manifold, t and r from ranges, the same every run (see conftest), and reports the
draw that fails; ``derandomize=False`` in ``settings`` draws others. The routes are sums over
images: on the circle and S³ alone, and on S² under an integral (with the factor e^{−r²/2t} taken
out of all of them, so that they hold for short times too),

    q₂(r) = √2 e^{t/8} (2πt)^{−3/2} ∫_r^π Σ_k (−1)^k (s + 2πk) e^{−(s + 2πk)²/2t}
            / √(cos r − cos s) ds.                                                           (1)
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss

from manifold_ae import heat
from manifold_ae.heat import sphere
from manifold_ae.manifolds import SO3, FlatTorus, KleinBottle, Manifold, RealProjective, Sphere

PI = math.pi
IMAGES = 2 * PI * np.arange(-8, 9)
NODES, WEIGHTS = leggauss(160)
TIMES = st.floats(math.log(1e-6), math.log(1e2)).map(math.exp)
#: Past this the images cancel; the radii stay off the antipode, where (1) is over no interval.
SHORTER = st.floats(math.log(1e-6), math.log(8.0)).map(math.exp)
RADII = st.floats(0.0, 3.1)


def log_circle(r: float, t: float) -> float:
    s = r + IMAGES
    return math.log(np.exp((r * r - s * s) / (2 * t)).sum() / math.sqrt(2 * PI * t)) - r * r / 2 / t


def log_three_sphere(r: float, t: float) -> float:
    # Where sin r vanishes the density is flat, and the limit is as good.
    r = min(max(r, 1e-4 * math.sqrt(t)), PI - 1e-5)
    s = r + IMAGES
    total = (s / math.sin(r) * np.exp((r * r - s * s) / (2 * t))).sum()
    return math.log(total * math.exp(t / 2) * (2 * PI * t) ** -1.5) - r * r / (2 * t)


def log_two_sphere(r: float, t: float) -> float:
    """(1) over v, with s² = r² + 2tv²: no root is left at s = r."""
    top = min(math.sqrt((PI - r) * (PI + r) / (2 * t)), 7.0)
    v, w = top * (NODES + 1) / 2, top * WEIGHTS / 2
    s = np.sqrt(r * r + 2 * t * v * v)
    apart = 2 * t * v * v / (s + r)  # s − r
    root = np.sqrt(2 * np.sin((s + r) / 2) * np.sin(apart / 2))
    each = s[:, None] + IMAGES
    sign = np.where(np.arange(-8, 9) % 2 == 0, 1.0, -1.0)
    images = (sign * each * np.exp((r * r - each**2) / (2 * t))).sum(-1)
    integral = (w * images * 2 * t * v / (s * root)).sum()
    constant = math.sqrt(2) * math.exp(t / 8) * (2 * PI * t) ** -1.5
    return math.log(constant * integral) - r * r / (2 * t)


def log_projective(log_cover: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda r, t: float(np.logaddexp(log_cover(r, t), log_cover(PI - r, t)))


def log_rotations(r: float, t: float) -> float:
    """S³ of radius two, folded."""
    return log_projective(log_three_sphere)(r / 2, t / 4) - math.log(8)


ROUTES: list[tuple[Manifold, Callable[[float, float], float], float]] = [
    (Sphere(1), log_circle, PI),
    (Sphere(2), log_two_sphere, PI),
    (Sphere(3), log_three_sphere, PI),
    (RealProjective(3), log_projective(log_three_sphere), PI / 2),
    (SO3(), log_rotations, PI),
]


@pytest.mark.parametrize(("manifold", "route", "diameter"), ROUTES, ids=lambda v: repr(v)[:14])
@settings(max_examples=30)
@given(r=RADII, t=SHORTER)
def test_log_densities_agree_with_images(manifold, route, diameter, r, t):
    r = r * diameter / PI
    x = manifold.base_point(dtype=torch.float64)
    u = torch.zeros_like(x)
    u[(0,) * (u.dim() - 1) + (1,)] = 1
    u = manifold.proju(x, u)
    y = manifold.expmap(x, r * u / manifold.inner(x, u).sqrt())
    expected = route(r, t)
    found = heat.log_kernel(manifold, x, y, x.new_tensor(t)).item()
    assert abs(found - expected) <= 1e-6 * max(1, abs(expected))
    single = heat.log_kernel(manifold, x.float(), y.float(), x.new_tensor(t).float()).item()
    # The distance itself is rounded in float32, by 1e-7 beside one.
    assert abs(single - expected) <= 1e-4 * max(1, abs(expected)) + 4e-7 * r / t


@settings(max_examples=30)
@given(
    angles=st.tuples(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1), st.floats(-3.1, 3.1)), t=SHORTER
)
def test_log_densities_of_flat_surfaces_agree_with_images(angles, t):
    theta, phi, start = angles
    torus, bottle = FlatTorus(2), KleinBottle()
    x = torus.from_angles(torch.tensor([0.0, start], dtype=torch.float64))
    y = torus.from_angles(torch.tensor([theta, phi], dtype=torch.float64))

    def log_torus(first: float, second: float) -> float:
        turned = [math.remainder(angle, 2 * PI) for angle in (first, second)]
        return sum(log_circle(abs(angle), t) for angle in turned)

    near = log_torus(theta, phi - start)
    expected = {torus: near, bottle: float(np.logaddexp(near, log_torus(theta + PI, -phi - start)))}
    for manifold, value in expected.items():
        found = heat.log_kernel(manifold, x, y, x.new_tensor(t)).item()
        assert abs(found - value) <= 1e-6 * max(1, abs(value))


# ---- what a kernel is -----------------------------------------------------------------------


def on_sphere(d: int, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Radii that a kernel of time t reaches, and their weights under the uniform law of Sᵈ."""
    reach = min(PI, (12 + math.sqrt(d)) * math.sqrt(t))
    share = math.lgamma((d + 1) / 2) - math.lgamma(d / 2) - math.log(PI) / 2
    r = reach * (NODES + 1) / 2
    weight = WEIGHTS * reach / 2 * math.exp(share) * np.sin(r) ** (d - 1)
    return torch.from_numpy(r), torch.from_numpy(weight)


@settings(max_examples=30)
@given(d=st.integers(1, 10), t=TIMES)
def test_kernels_of_spheres_integrate_to_one(d, t):
    r, weight = on_sphere(d, t)
    density = sphere.log_relative_density(d, r, r.new_tensor(t)).exp()
    assert float((weight * density).sum()) == pytest.approx(1.0, abs=1e-7)


@settings(max_examples=30)
@given(d=st.integers(1, 10), s=TIMES, t=TIMES)
def test_semigroup_law_from_a_point_to_itself(d, s, t):
    """∫ q(s; x, y) q(t; y, x) dy = q(s + t; x, x)."""
    r, weight = on_sphere(d, min(s, t))
    both = sum(sphere.log_relative_density(d, r, r.new_tensor(time)) for time in (s, t))
    expected = sphere.log_relative_density(d, r.new_tensor(0.0), r.new_tensor(s + t))
    found = torch.logsumexp(both + weight.log(), 0)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
