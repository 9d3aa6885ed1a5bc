"""When two specifications name one latent space: the normal form of a manifold.

Latent spaces are compared up to isometry and up to the scale of their factors, for each factor of a
product has a time of its own, which a scale would be absorbed in. In normal form

    S¹, ℝP¹ and T¹ are the circle; Tᵈ is a product of d circles;
    ℝP³ is SO(3), of half its size;
    Euclidean factors are one; factors come in the order of their names.

What is no product of named manifolds is its own normal form.
"""

import functools

from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.euclidean import Euclidean
from manifold_ae.manifolds.product import Product
from manifold_ae.manifolds.projective import RealProjective
from manifold_ae.manifolds.rotation import SO3
from manifold_ae.manifolds.sphere import Sphere
from manifold_ae.manifolds.torus import FlatTorus

__all__ = ["class_name", "normal_form"]


def normal_form(M: Manifold) -> Manifold:
    """The one manifold that stands for all that are M up to isometry and scale of factors.

    Example:
        >>> normal_form(RealProjective(3)), normal_form(FlatTorus(2))
        (SO3(), Product(FlatTorus(1), FlatTorus(1)))
    """
    curved = [factor for factor in _factors(M) if not isinstance(factor, Euclidean)]
    flat = sum(factor.dim for factor in _factors(M) if isinstance(factor, Euclidean))
    factors = sorted(curved, key=lambda factor: factor.spec)
    if flat:
        factors.append(Euclidean(flat))
    return factors[0] if len(factors) == 1 else Product(*factors)


def class_name(M: Manifold) -> str:
    """The shortest specification of M's normal form: circles make a torus.

    Example:
        >>> class_name(Product(Sphere(1), RealProjective(1)))
        'torus:2'
    """
    circle = FlatTorus(1)
    factors = list(getattr(normal_form(M), "factors", (normal_form(M),)))
    circles = factors.count(circle)
    rest = [factor.spec for factor in factors if factor != circle]
    torus = ["circle"] if circles == 1 else [FlatTorus(circles).spec] if circles else []
    return "*".join(torus + rest)


@functools.singledispatch
def _factors(M: Manifold) -> list[Manifold]:
    """What M is a product of, in normal form but for order."""
    return [M]


@_factors.register
def _(M: Product) -> list[Manifold]:
    return [part for factor in M.factors for part in _factors(factor)]


@_factors.register
def _(M: FlatTorus) -> list[Manifold]:
    return [FlatTorus(1)] * M.dim


@_factors.register
def _(M: Sphere) -> list[Manifold]:
    return [FlatTorus(1)] if M.dim == 1 else [M]


@_factors.register
def _(M: RealProjective) -> list[Manifold]:
    return {1: [FlatTorus(1)], 3: [SO3()]}.get(M.dim, [M])
