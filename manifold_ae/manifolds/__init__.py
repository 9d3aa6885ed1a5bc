"""Latent manifolds: geometry only. Kernels live in ``heat``, laws in ``distributions``."""

import difflib
from collections.abc import Callable

from manifold_ae.manifolds import actions  # noqa: F401  (it registers itself)
from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.classes import class_name, normal_form
from manifold_ae.manifolds.embedded_torus import EmbeddedTorus
from manifold_ae.manifolds.euclidean import Euclidean
from manifold_ae.manifolds.klein_bottle import KleinBottle
from manifold_ae.manifolds.product import Product
from manifold_ae.manifolds.projective import RealProjective
from manifold_ae.manifolds.quotient import Quotient
from manifold_ae.manifolds.revolution import Revolution, Spheroid, SurfaceOfRevolution
from manifold_ae.manifolds.rotation import SO3
from manifold_ae.manifolds.sphere import Sphere
from manifold_ae.manifolds.submanifold import Submanifold
from manifold_ae.manifolds.torus import FlatTorus

__all__ = [
    "SO3",
    "EmbeddedTorus",
    "Euclidean",
    "FlatTorus",
    "KleinBottle",
    "Manifold",
    "Product",
    "Quotient",
    "RealProjective",
    "Revolution",
    "Sphere",
    "Spheroid",
    "Submanifold",
    "SurfaceOfRevolution",
    "class_name",
    "names",
    "normal_form",
    "parse",
]

#: Name in a specification → (constructor, whether a dimension follows, what it is).
_SPECIFICATIONS: dict[str, tuple[Callable[..., Manifold], bool, str]] = {
    "circle": (
        lambda: FlatTorus(1),
        False,
        "S¹: one angle; sphere:1 and torus:1 are the same space",
    ),
    "embedded-torus": (EmbeddedTorus, False, "torus of revolution in ℝ³, of radii 3 and 0.6"),
    "euclidean": (Euclidean, True, "ℝᵈ, the latent space of a standard VAE"),
    "klein-bottle": (KleinBottle, False, "the flat Klein bottle, (θ, φ) ~ (θ + π, −φ)"),
    "projective": (
        RealProjective,
        True,
        "ℝPᵈ: axes without a sign, Sᵈ with x ~ −x; projective:1 is a circle of half the length",
    ),
    "so3": (SO3, False, "SO(3): poses, rotations of space"),
    "sphere": (Sphere, True, "Sᵈ: directions; sphere:1 is the circle"),
    "spheroid": (Spheroid, False, "ellipsoid of revolution, of radii 1 and, to the poles, 1.5"),
    "torus": (FlatTorus, True, "Tᵈ: d angles, a product of circles; torus:1 is the circle"),
}


def names() -> dict[str, str]:
    """Specifications that ``parse`` reads, with a line on each."""
    return {
        name + (":d" if sized else ""): line for name, (_, sized, line) in _SPECIFICATIONS.items()
    }


def parse(spec: str) -> Manifold:
    """The manifold that a specification names: ``"sphere:2"``, ``"so3"``, ``"circle"``, ...

    Products are written with ``*``.

    Raises:
        ValueError: if there is no such manifold; the message lists those that there are.

    Example:
        >>> parse("sphere:2")
        Sphere(2)
        >>> parse("sphere:2*circle")
        Product(Sphere(2), FlatTorus(1))
    """
    if "*" in spec:
        return Product(*(parse(factor) for factor in spec.split("*")))
    name, _, size = spec.strip().lower().partition(":")
    if name not in _SPECIFICATIONS:
        near = difflib.get_close_matches(name, _SPECIFICATIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no manifold {spec!r}{hint}; there are: {', '.join(names())}")
    constructor, sized, _ = _SPECIFICATIONS[name]
    if not sized:
        if size:
            raise ValueError(f"manifold {spec!r}: {name} takes no dimension, write {name!r}")
        return constructor()
    if not size.isdecimal() or int(size) < 1:
        raise ValueError(f"manifold {spec!r}: write {name}:d with d at least 1, as in '{name}:2'")
    return constructor(int(size))
