"""Our manifolds as geomstats' spaces, and points there and back.

N. Miolane et al., *Geomstats: A Python Package for Riemannian Geometry in Machine Learning*, JMLR
21, 2020.
"""

import contextlib
import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    Manifold,
    Product,
    RealProjective,
    Sphere,
)

__all__ = ["from_geomstats", "space", "to_geomstats"]

_IMPORTING = threading.Lock()


@dataclass(frozen=True)
class _Piece:
    """A factor that geomstats knows: its space, and the coordinates there and back."""

    make: Callable[[], Any]
    size: int
    there: Callable[[Tensor], Tensor] = lambda x: x
    back: Callable[[Tensor], Tensor] = lambda y: y


@functools.singledispatch
def _pieces(M: Manifold) -> list[_Piece]:
    raise NotImplementedError(
        f"geomstats has no {M!r}: it has spheres, flat tori, SO(3), projective and Euclidean "
        "spaces and their products; frechet_mean, principal_geodesics and cluster of this module "
        "need none"
    )


@_pieces.register
def _(M: Euclidean) -> list[_Piece]:
    def make() -> Any:
        with _geomstats():
            from geomstats.geometry.euclidean import Euclidean as Theirs
        return Theirs(M.dim)

    return [_Piece(make, M.dim)]


@_pieces.register
def _(M: Sphere) -> list[_Piece]:
    def make() -> Any:
        with _geomstats():
            from geomstats.geometry.hypersphere import Hypersphere
        return Hypersphere(M.dim)

    return [_Piece(make, M.dim + 1)]


@_pieces.register
def _(M: FlatTorus) -> list[_Piece]:
    return _pieces(Sphere(1)) * M.dim


@_pieces.register
def _(M: SO3) -> list[_Piece]:
    def make() -> Any:
        with _geomstats():
            from geomstats.geometry.special_orthogonal import SpecialOrthogonal
        return SpecialOrthogonal(3)

    return [_Piece(make, 9)]


@_pieces.register
def _(M: RealProjective) -> list[_Piece]:
    side = M.dim + 1

    def make() -> Any:
        with _geomstats():
            from geomstats.geometry.grassmannian import Grassmannian
        lines: Any = Grassmannian(side, 1)
        lines.metric = 0.5 * lines.metric  # the angle between lines, not √2 of it
        # A product of spaces asks the metrics of its factors for these.
        lines.metric.point_ndim, lines.metric.shape = lines.point_ndim, lines.shape
        return lines

    def there(x: Tensor) -> Tensor:
        return (x[..., :, None] * x[..., None, :]).flatten(-2)

    def back(y: Tensor) -> Tensor:
        return torch.linalg.eigh(y.unflatten(-1, (side, side)))[1][..., -1]

    return [_Piece(make, side, there, back)]


@_pieces.register
def _(M: Product) -> list[_Piece]:
    return [piece for factor in M.factors for piece in _pieces(factor)]


def space(M: Manifold) -> Any:
    """The space of geomstats that is M, with the same metric, on its numpy backend.

    Raises:
        NotImplementedError: if it has none; the message says what to take instead.
        ImportError: if geomstats cannot be used here, and why.
    """
    made = [piece.make() for piece in _pieces(M)]
    if len(made) == 1:
        return made[0]
    with _geomstats():
        from geomstats.geometry.product_manifold import ProductManifold
    return ProductManifold(made, point_ndim=1)


def to_geomstats(M: Manifold, points: Tensor | np.ndarray) -> np.ndarray:
    """Points ``(*, *ambient_shape)`` in the coordinates of ``space(M)``, in float64."""
    pieces = _pieces(M)
    x = torch.as_tensor(points).detach().double().cpu()
    M.require_shape("points", x)
    flat = x.flatten(x.dim() - len(M.ambient_shape))
    parts = flat.split([piece.size for piece in pieces], -1)
    there = torch.cat([p.there(part) for p, part in zip(pieces, parts, strict=True)], -1)
    return there.reshape(*flat.shape[:-1], *_their_shape(M, pieces)).numpy()


def from_geomstats(M: Manifold, points: np.ndarray) -> Tensor:
    """Points of M, ``(*, *ambient_shape)`` in float64, from the coordinates of ``space(M)``."""
    pieces = _pieces(M)
    shape = _their_shape(M, pieces)
    y = torch.from_numpy(np.array(points, np.float64))
    if y.dim() < len(shape) or tuple(y.shape[y.dim() - len(shape) :]) != shape:
        raise ValueError(f"points has shape {tuple(y.shape)}: geomstats' {M!r} has (*, {shape})")
    flat = y.flatten(y.dim() - len(shape))
    parts = flat.split([_their_size(piece) for piece in pieces], -1)
    back = torch.cat([p.back(part) for p, part in zip(pieces, parts, strict=True)], -1)
    return back.reshape(*flat.shape[:-1], *M.ambient_shape)


def _their_size(piece: _Piece) -> int:
    return piece.there(torch.zeros(piece.size)).numel()


def _their_shape(M: Manifold, pieces: list[_Piece]) -> tuple[int, ...]:
    sizes = [_their_size(piece) for piece in pieces]
    if len(pieces) > 1:
        return (sum(sizes),)
    projectors = sizes[0] != pieces[0].size
    return (pieces[0].size,) * 2 if projectors else M.ambient_shape


@contextlib.contextmanager
def _geomstats() -> Iterator[None]:
    """Around imports of geomstats: its numpy backend, with nothing of numpy or torch changed.

    geomstats 2.8 asks numpy for ``trapz``, which numpy 2.4 calls ``trapezoid``: it is lent for the
    length of the import. Its pytorch backend sets torch's default dtype for the whole process. Its
    debugging message gives Python's root logger a handler, which is taken away again.

    Raises:
        ImportError: if another backend is asked for, or has been imported.
    """
    backend = os.environ.get("GEOMSTATS_BACKEND", "numpy")
    if backend != "numpy":
        raise ImportError(
            f"GEOMSTATS_BACKEND = {backend!r}: only geomstats' numpy backend is used, since its "
            "pytorch backend changes torch's default dtype; unset the variable"
        )
    with _IMPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lent, handlers = not hasattr(np, "trapz"), list(logging.root.handlers)
        if lent:
            np.trapz = np.trapezoid  # type: ignore[attr-defined]  # noqa: NPY201
        try:
            yield
            import geomstats.backend as running  # type: ignore[import-not-found]
        finally:
            logging.root.handlers[:] = handlers
            if lent:
                del np.trapz  # type: ignore[attr-defined]  # noqa: NPY201
    if running.__name__ != "geomstats.numpy":
        raise ImportError(f"geomstats runs on {running.__name__}: only its numpy backend is used")
