"""Oriented orthonormal frames of tangent spaces.

A frame is chosen point by point and need not be continuous in the point (on S² none is), but where
the manifold is orientable it is always of the one orientation: signs of determinants in two frames
can be compared from point to point. On a quotient it is that of the cover, at the tensor that
stands for the point.
"""

from functools import singledispatch

import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.embedded_torus import EmbeddedTorus
from manifold_ae.manifolds.euclidean import Euclidean
from manifold_ae.manifolds.product import Product
from manifold_ae.manifolds.quotient import Quotient
from manifold_ae.manifolds.rotation import SO3
from manifold_ae.manifolds.sphere import Sphere
from manifold_ae.manifolds.torus import FlatTorus

__all__ = ["oriented_frame"]


@singledispatch
def oriented_frame(M: Manifold, x: Tensor) -> Tensor:
    """Orthonormal tangent vectors at points x ``(*, *ambient_shape)``, of one orientation.

    Returns:
        The vectors, of shape ``(*, d, *ambient_shape)``.

    Raises:
        NotImplementedError: on manifolds of which no frame is known.
    """
    raise NotImplementedError(
        f"no oriented frame is known on {M!r}: register one with manifolds.frames.oriented_frame"
    )


@oriented_frame.register
def _(M: Euclidean, x: Tensor) -> Tensor:
    eye = torch.eye(M.dim, dtype=x.dtype, device=x.device)
    return eye.expand(*x.shape[:-1], M.dim, M.dim)


@oriented_frame.register
def _(M: Sphere, x: Tensor) -> Tensor:
    """With the outward normal first, of the orientation of the basis of ℝᵈ⁺¹."""
    columns = torch.linalg.qr(x.unsqueeze(-1), mode="complete").Q
    frame = columns[..., 1:].mT
    sign = torch.linalg.det(torch.cat([x.unsqueeze(-2), frame], -2)).sign()
    return torch.cat([sign[..., None, None] * frame[..., :1, :], frame[..., 1:, :]], -2)


@oriented_frame.register
def _(M: FlatTorus, x: Tensor) -> Tensor:
    """Along each circle in turn, in the direction in which its angle grows."""
    eye = torch.eye(M.dim, dtype=x.dtype, device=x.device)
    return M._along(x.unsqueeze(-2), eye.expand(*x.shape[:-1], M.dim, M.dim))


@oriented_frame.register
def _(M: SO3, x: Tensor) -> Tensor:
    """The rotations about the three axes of the body."""
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    return M.along(x.unsqueeze(-3), eye.expand(*x.shape[:-2], 3, 3))


@oriented_frame.register
def _(M: EmbeddedTorus, x: Tensor) -> Tensor:
    """Along the rotation, then along the tube."""
    along_tube, along_rotation, _ = M.frame(x)
    return torch.stack([along_rotation, along_tube], -2)


@oriented_frame.register
def _(M: Quotient, x: Tensor) -> Tensor:
    return oriented_frame(M.cover, x)


@oriented_frame.register
def _(M: Product, x: Tensor) -> Tensor:
    """The factors' frames in turn."""
    parts = M.split(x)
    rows = []
    for k, factor in enumerate(M.factors):
        frame = oriented_frame(factor, parts[k])
        flat = frame.flatten(frame.dim() - len(factor.ambient_shape))
        before = sum(M._sizes[:k])
        after = sum(M._sizes[k + 1 :])
        rows.append(torch.nn.functional.pad(flat, (before, after)))
    return torch.cat(rows, -2)
