"""``align``: what two learned things have in common, up to what cannot be known."""

from collections.abc import Callable
from typing import Any, overload

from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics.alignment import Alignment, align_representations
from manifold_ae.metrics.isometries import Aligned, align_latents

__all__ = ["align"]


@overload
def align(manifold: Manifold, a: Tensor, b: Tensor, /, *, seed: int = 0) -> Aligned: ...
@overload
def align(
    manifold: Callable[[Any], Tensor],
    a: Callable[[Any], Tensor],
    b: Tensor,
    /,
    *,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Alignment: ...
def align(manifold: Any, a: Any, b: Any, /, **options: Any) -> Aligned | Alignment:
    """Latents on a manifold, or representations, carried to each other.

    ``align(M, a, b)``: the isometry of M that carries latents a nearest to b; see
    ``isometries.align_latents``. ``align(rho, truth, actions)``: the change of basis between two
    representations; see ``alignment.align_representations``.

    Example:
        >>> import torch
        >>> from manifold_ae.manifolds import FlatTorus
        >>> M = FlatTorus(1)
        >>> angles = torch.linspace(0, 6, 50)[:, None]
        >>> found = align(M, M.from_angles(angles), M.from_angles(1 - angles))
        >>> found.words, round(found.mean_distance, 3)
        ('reflection, then a turn by 57.3°', 0.0)
    """
    what = align_latents if isinstance(manifold, Manifold) else align_representations
    return what(manifold, a, b, **options)
