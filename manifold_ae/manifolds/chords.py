r"""Neighbouring points of a submanifold: distance and curvature between them, from their chord.

Notation: c = |y − x|; m = P((x + y)/2), the point of M below the middle; v = DP(m)(y − x).

A geodesic with γ'' = II(γ', γ'), |γ'| = 1, has |γ(s) − γ(−s)|² = 4s² − (4/3) s⁴ |II|² + O(s⁶) about
its middle: the terms of odd order cancel there. So, with r its length and κ = |II(v, v)|/|v|²,

    r² = c² + κ²c⁴/12 + O(c⁶) = ((2/κ) arcsin(κc/2))² + O(c⁶).                                (1)

The second form is the same to this order, and exact where geodesics are circles. Gauss' equation
gives Ric(v, v) = ⟨tr II, II(v, v)⟩ − Σ_a |II(v, e_a)|² at m.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from manifold_ae.manifolds.projection import Embedding
from manifold_ae.numerics import arc_over_sine

__all__ = ["BEND", "Chord", "chord"]

#: The tangent plane turns by about this angle from one end of a chord to the other, at most.
BEND = 1.0
#: Normal part of a chord at its middle, relative to its length: O(c²) for neighbours.
NORMAL = 0.1


class Chord(NamedTuple):
    """What a chord tells, each of shape ``(n,)``."""

    #: r² by (1).
    squared_distance: Tensor
    #: Ric(u, u) r², u = v/|v|, and the scalar curvature at m.
    ricci: Tensor
    scalar: Tensor
    #: (Σ_a |II(v, e_a)|²)^½, the angle by which the tangent plane turns; |II|² at m.
    bend: Tensor
    form_squared: Tensor
    #: Whether bend ≤ BEND and the chord is tangent at m but for a part NORMAL.
    near: Tensor


def chord(embedding: Embedding, x: Tensor, y: Tensor) -> Chord:
    """The chords from x to y, flat points of shape ``(n, D)``."""
    m = embedding.project((x + y) / 2)
    step = y - x
    v = embedding.tangent(m, step)
    form = embedding.form(m)  # (n, w, u, v)
    along = torch.einsum("nwuv,nv->nwu", form, v)
    bent = torch.einsum("nwu,nu->nw", along, v)
    trace = form.diagonal(dim1=-2, dim2=-1).sum(-1)
    c2 = step.square().sum(-1)
    tiny = torch.finfo(c2.dtype).tiny ** 0.5
    sine_squared = (bent.square().sum(-1) / (4 * c2.clamp_min(tiny))).clamp_max(1)
    ratio = arc_over_sine(sine_squared, (1 - sine_squared.clamp_max(1 - 1e-12)).sqrt())
    square, form_squared = along.square().sum((-2, -1)), form.square().sum((-3, -2, -1))
    normal = (step - v).square().sum(-1)
    return Chord(
        squared_distance=c2 * ratio.square(),
        ricci=((trace * bent).sum(-1) - square) * ratio.square(),
        scalar=trace.square().sum(-1) - form_squared,
        bend=square.clamp_min(0).detach().sqrt(),
        form_squared=form_squared,
        near=(square <= BEND**2) & (normal <= NORMAL**2 * c2),
    )
