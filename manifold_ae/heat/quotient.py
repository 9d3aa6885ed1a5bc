r"""Quotients by a finite group: the kernel of the cover, summed over the group.

    q_{M/Γ}(t; x, y) = Σ_{g ∈ Γ} q_M(t; x, g·y)

Brownian motion on the cover projects to that on the quotient, so the cover's sampler has the right
law; but its paths may jump where x passes to another point over the same one, for the noise is not
carried along. Not where the group commutes with the motion, as R ↦ R g does on SO(3); nor on the
Klein bottle: there the reversed angle's noise is a cos θ + b sin θ with a, b ∼ N(0, 1), standard
normal, and reversed by θ → θ + π.

The divergence of the Klein bottle's kernel from the uniform law depends on the time and on φ,
through c = cos 2φ. What is tabulated is e^t K, over c and log t: smooth, positive, and constant
for long times. Where the kernel looks alike from every point K depends on the time alone (see
``space_forms``), on lens spaces on one more variable (see ``lens``); elsewhere, up to three
dimensions, it is computed at every point (see ``cubature``).
"""

import math

import numpy as np
import torch
from torch import Tensor

from manifold_ae.heat import circle
from manifold_ae.heat.cubature import by_cubature
from manifold_ae.heat.divergence import check_short, short_time
from manifold_ae.heat.homogeneous import Tabulated, expanded
from manifold_ae.heat.kernel import (
    brownian_step,
    has_sampler,
    is_quick,
    kl_uniform,
    log_kernel,
    noise_shape,
)
from manifold_ae.heat.lens import first_plane, lens_divergence
from manifold_ae.heat.space_forms import quotient_table
from manifold_ae.heat.sphere_tables import divergence, x_log_x_excess
from manifold_ae.heat.tables import Table2
from manifold_ae.manifolds import FlatTorus, KleinBottle, Quotient
from manifold_ae.numerics import built_once, with_slopes

__all__: list[str] = []

#: Before this time the images of a point on the Klein bottle do not meet, to 1e-10.
APART = 0.05
#: From this time on e^t K is constant to 1e-12.
LONG = 40.0


@log_kernel.register
def _(manifold: Quotient, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    # To the whole batch first: the axis of the group stands before it.
    rank, time_rank = len(manifold.ambient_shape), len(manifold.time_shape)
    batches = (p.shape[: p.dim() - k] for p, k in ((x, rank), (y, rank), (t, time_rank)))
    shape = (*torch.broadcast_shapes(*batches), *manifold.ambient_shape)
    images = manifold.images(y.double().expand(shape))
    summed = torch.logsumexp(log_kernel(manifold.cover, x.double(), images, t.double()), 0)
    return summed.to(x.dtype)


@kl_uniform.register
def _(manifold: Quotient, x: Tensor, t: Tensor) -> Tensor:
    found = quotient_table(manifold)
    if found is None:
        plane = first_plane(manifold)
        if plane is None:
            return by_cubature(manifold, x, t)
        return lens_divergence(manifold, plane, x, t)
    table, scale = found
    return Tabulated.of(lambda: table, (), scale * expanded(manifold, x, t))


@is_quick.register
def _(manifold: Quotient) -> bool:
    own = kl_uniform.dispatch(type(manifold)) is not kl_uniform.dispatch(Quotient)
    return own or quotient_table(manifold) is not None or first_plane(manifold) is not None


@short_time.register
def _(
    manifold: Quotient,
    loc: Tensor,
    time: Tensor,
    coefficient: float | None,
    allow_inaccurate: bool,
) -> Tensor:
    check_short(manifold, time, allow_inaccurate)
    # The cover's, which on a product goes by its factors and their times, for a smaller volume.
    covered = short_time(manifold.cover, loc, time, coefficient, True)
    return covered - math.log(manifold.order)


@noise_shape.register
def _(manifold: Quotient) -> tuple[int, ...]:
    return noise_shape(manifold.cover)


@has_sampler.register
def _(manifold: Quotient) -> bool:
    return has_sampler(manifold.cover)


@brownian_step.register
def _(manifold: Quotient, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return brownian_step(manifold.cover, x, t, noise)


# ---- the Klein bottle -----------------------------------------------------------------------


@noise_shape.register
def _(manifold: KleinBottle) -> tuple[int, ...]:
    return (3,)


@brownian_step.register
def _(manifold: KleinBottle, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    reversed_ = (x[..., :2] * noise[..., 1:]).sum(-1)
    angles = torch.stack([noise[..., 0], reversed_], -1)
    return FlatTorus(2).rotate(x, t.sqrt().unsqueeze(-1) * angles)


def _klein_divergence(c: np.ndarray, t: np.ndarray) -> np.ndarray:
    """K by the trapezoid rule on the torus, for c = cos 2φ of shape (m,) and t of shape (n,)."""
    phi = np.arccos(np.clip(c, -1, 1)) / 2
    apart = 2 * divergence(1, t) - math.log(2)
    result = np.broadcast_to(apart, (len(c), len(t))).copy()
    points = 96
    angle = torch.from_numpy(2 * np.pi * np.arange(points) / points)
    for column in np.flatnonzero(t >= APART):
        time = torch.tensor(t[column])

        def excess(r: Tensor, time: Tensor = time) -> np.ndarray:
            """2π q − 1 of the circle, at any angle, without cancellation for long times."""
            r = torch.pi - (r % (2 * torch.pi) - torch.pi).abs()
            if time >= circle.CROSSOVER:
                return circle.relative_excess(r, time).numpy()
            return np.expm1(circle.log_relative_density(r, time).numpy())

        # Angles are counted from x = (0, φ); its image is (π, −φ). By symmetry, half the θ serve.
        near, far = excess(angle)[:, None], excess(angle - torch.pi)[:, None]
        here = excess(angle)
        for row in range(len(c)):
            there = excess(angle + 2 * phi[row])
            e = (near + here + near * here + far + there + far * there) / 2
            result[row, column] = x_log_x_excess(e).mean()
    return result


@built_once
def _klein_table() -> Table2:
    def scaled(c: np.ndarray, u: np.ndarray) -> np.ndarray:
        t = np.exp(u)
        return np.exp(t) * _klein_divergence(c, t)

    # Below, −log t + const; what e^t changes of it there is rounding.
    return Table2(scaled, (-1.0, 1.0), 4, (math.log(1e-15), math.log(LONG)), 130, slope_below=-1.0)


@kl_uniform.register
def _(manifold: KleinBottle, x: Tensor, t: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-1], t.shape)
    c, s = x[..., 2], x[..., 3]

    def evaluate(double: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        value, along_c, along_log_time = _klein_table().evaluate(double, t.log())
        decay = torch.exp(-t)
        return decay * value, decay * along_c, decay * (along_log_time / t - value)

    double = (c - s) * (c + s)
    return with_slopes(evaluate, double.expand(batch), t.expand(batch))
