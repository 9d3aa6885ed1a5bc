"""The manifolds and groups that every contract is held to; adding one to the suite is a line here.

What a test needs to know beyond the manifold itself is asked of the library: whether it is
compact, which generic functions of ``heat`` are registered for it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from manifold_ae import groups, heat
from manifold_ae.groups import finite
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Revolution,
    Sphere,
    Spheroid,
    SurfaceOfRevolution,
)


def bean(u: Tensor) -> tuple[Tensor, Tensor]:
    """A closed profile that is neither a circle nor the same from both sides."""
    return 2.5 + u.cos() - 0.02 * (2 * u).cos(), u.sin() + 0.03 * (u + 1).cos()


MANIFOLDS: tuple[Manifold, ...] = (
    Euclidean(1),
    Euclidean(2),
    Euclidean(3),
    Sphere(1),
    Sphere(2),
    Sphere(3),
    Sphere(5),
    Sphere(10),
    FlatTorus(1),
    FlatTorus(2),
    FlatTorus(3),
    SO3(),
    RealProjective(1),
    RealProjective(2),
    RealProjective(3),
    KleinBottle(),
    Quotient(SO3(), finite.dihedral(2), name="so3/dihedral"),
    Product(Sphere(2), FlatTorus(1)),
    Product(SO3(), Euclidean(2), RealProjective(2)),
    EmbeddedTorus(),
    Spheroid(),
    SurfaceOfRevolution(bean),
)

LIE_GROUPS: tuple[groups.LieGroup, ...] = (
    groups.SO2(),
    groups.SO3(),
    groups.SO(2),
    groups.SO(3),
    groups.SO(4),
    groups.SO(5),
    groups.Torus(1),
    groups.Torus(3),
    groups.SE2(),
    groups.SE3(),
    groups.ScaleTranslation(1),
    groups.ScaleTranslation(3),
    groups.ScaleTranslation(3, diagonal=True),
    groups.Affine(1),
    groups.Affine(2),
    groups.GL(1),
    groups.GL(3),
    groups.Product(groups.Torus(2), groups.SO3()),
    groups.Product(groups.SE2(), groups.GL(2), groups.ScaleTranslation(2)),
)
FINITE_GROUPS: tuple[groups.FiniteGroup, ...] = (
    groups.Cyclic(1),
    groups.Cyclic(5),
    groups.Dihedral(1),
    groups.Dihedral(2),
    groups.Dihedral(4),
    groups.Tetrahedral(),
    groups.Octahedral(),
    groups.Icosahedral(),
    groups.FiniteGroup(groups.Dihedral(3).table.numpy()),
    groups.FiniteGroup.from_matrices([np.eye(3)[[1, 2, 0]], np.eye(3)[[1, 0, 2]]]),
    groups.Product(groups.Cyclic(3), groups.Dihedral(3)),
)


def has(function: Any, manifold: Manifold) -> bool:
    """Whether a generic function of ``heat`` is registered for a manifold."""
    return function.dispatch(type(manifold)) is not function.dispatch(object)


COMPACT = tuple(M for M in MANIFOLDS if M.compact)
WITH_KERNEL = tuple(M for M in MANIFOLDS if has(heat.log_kernel, M))
WITH_SAMPLER = tuple(M for M in MANIFOLDS if has(heat.brownian_step, M))
WITH_EXACT_KL = tuple(M for M in MANIFOLDS if has(heat.kl_uniform, M) and M.compact)
#: Those with one time a sample.
WITH_ONE_TIME = tuple(M for M in WITH_EXACT_KL if not M.time_shape)

SPHERES = tuple(M for M in MANIFOLDS if isinstance(M, Sphere))
TORI = tuple(M for M in MANIFOLDS if isinstance(M, FlatTorus))


def over(manifolds: tuple[Manifold, ...], *, geodesics: bool = False) -> Callable[[Any], Any]:
    """Parametrise a test over ``manifold``, with readable names.

    One that finds many shortest ``geodesics`` is slow where a pair takes a tenth of a second; the
    tests of surfaces of revolution hold the quick suite to the same maps of known surfaces.
    """
    dear = [geodesics and isinstance(M, SurfaceOfRevolution) for M in manifolds]
    return pytest.mark.parametrize(
        "manifold",
        [
            pytest.param(M, id=M.spec, marks=[pytest.mark.slow] if slow else [])
            for M, slow in zip(manifolds, dear, strict=True)
        ],
    )


def over_groups(groups: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Parametrise a test over ``group``, with readable names."""
    return pytest.mark.parametrize("group", groups, ids=[repr(G) for G in groups])


def sample_size(manifold: Manifold, n: int) -> int:
    """n; less where shortest geodesics are found by iteration: 2 ms a pair, or 20."""
    cost = 50 if isinstance(manifold, SurfaceOfRevolution) else 10
    return max(2, n // cost) if isinstance(manifold, Revolution) else n


def homogeneous(manifold: Manifold) -> bool:
    """Whether the kernel looks alike from every point."""
    return not isinstance(manifold, Revolution | KleinBottle)


def amplification(manifold: Manifold) -> float:
    """How much shortest geodesics amplify rounding: along the inner equator e^{r √−K}."""
    return 500.0 if isinstance(manifold, Revolution) else 1.0


def points(manifold: Manifold, *shape: int, **kwargs: Any) -> Tensor:
    """Random points, of the default prior's law: uniform where there is a uniform one."""
    return manifold.default_prior().sample(torch.Size(shape), **kwargs)  # type: ignore[call-arg]


def law_at(
    law: Any, manifold: Manifold, t: float | list[float], generator: torch.Generator, **kwargs: Any
) -> Any:
    """A law at random locations, one for each time, in float64 unless told."""
    kwargs.setdefault("dtype", torch.float64)
    shape = torch.tensor(t).shape
    loc = points(manifold, *shape, generator=generator, device=generator.device, **kwargs)
    return law(manifold, loc, batched_time(manifold, loc.new_tensor(t)))


def tangents(manifold: Manifold, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random tangent vectors at x: the tangent part of standard normal ambient ones."""
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return manifold.proju(x, noise)


def as_factor(manifold: Manifold, value: Tensor) -> Tensor:
    """One number a point, of shape ``(*)``, with the axes of a point behind."""
    return value.reshape(*value.shape, *[1] * len(manifold.ambient_shape))


def unit_tangents(
    manifold: Manifold, x: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Random tangent vectors at x, of length one."""
    u = tangents(manifold, x, generator)
    return u / as_factor(manifold, manifold.inner(x, u).sqrt())


def event_norm(manifold: Manifold, u: Tensor) -> Tensor:
    """Euclidean length of ambient vectors, over all the axes of a point."""
    return torch.linalg.vector_norm(u.flatten(u.dim() - len(manifold.ambient_shape)), dim=-1)


def length(manifold: Manifold, x: Tensor, u: Tensor) -> Tensor:
    """Riemannian length of tangent vectors at x."""
    rank = len(manifold.ambient_shape)
    return manifold.inner(x, u).sqrt() if rank else u


def ambient_gap(manifold: Manifold, x: Tensor, y: Tensor) -> float:
    """Largest difference of the coordinates of x and of the image of y nearest to it."""
    gap = x - manifold.nearest(x, y)
    return gap.detach().abs().max().item() if gap.numel() else 0.0


def batched_time(manifold: Manifold, t: Tensor) -> Tensor:
    """Times of shape ``(*, *time_shape)`` from one number a sample, the same in every entry."""
    shape = t.shape + (1,) * len(manifold.time_shape)
    return t.reshape(shape).expand(t.shape + manifold.time_shape)


def noise_for(
    manifold: Manifold, *shape: int, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Standard normal noise as ``heat.brownian_step`` takes it."""
    full = (*shape, *heat.noise_shape(manifold))
    return torch.randn(full, dtype=dtype, device=generator.device, generator=generator)
