r"""Equivariance of an encoder: does moving the world move the latent by ρ?

    error = E \|h(g·o) − ρ(g) h(o)\|² / tr Cov h(o)

The denominator is the spread of the latents. Without it an encoder that shrinks its latents would
look ever better. 0 is exact equivariance; 2 is what independent latents of one law reach under an
orthogonal ρ that leaves their mean where it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite, same, traces

__all__ = ["equivariance_error", "trace_equivariance", "transition_error"]


def equivariance_error(z: Tensor, moved: Tensor, matrices: Tensor) -> float:
    r"""E \|z' − ρ z\|² / tr Cov z, unchanged by orthogonal maps and by scaling of the latents.

    Arguments:
        z: latents h(o) before the move, of shape ``(*, d)``.
        moved: latents h(g·o) after it, of shape ``(*, d)``.
        matrices: ρ(g), of shape ``(*, d, d)``.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or the latents have no spread: of a
            collapsed encoder the error is undefined.

    Example:
        >>> z = torch.eye(2)
        >>> quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).expand(2, 2, 2)
        >>> equivariance_error(z, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), quarter)
        0.0
    """
    if z.ndim < 2:
        raise ValueError(f"z has shape {tuple(z.shape)}: expected (*, d), with two latents or more")
    same("matrices", matrices, (*z.shape, z.shape[-1]), "a d × d matrix for every latent of z")
    double = finite("z", z).unsqueeze(-1)
    return transition_error(z, moved, (finite("matrices", matrices) @ double).squeeze(-1))


def transition_error(z: Tensor, moved: Tensor, predicted: Tensor) -> float:
    r"""E \|z' − ẑ\|² / tr Cov z: the same of latents that were moved without their matrices.

    Arguments:
        z: latents h(o) before the move, of shape ``(*, d)``.
        moved: latents h(g·o) after it, of shape ``(*, d)``.
        predicted: what they are said to be, ρ(g) z or another, of shape ``(*, d)``.

    Raises:
        ValueError: as ``equivariance_error``.

    Example:
        >>> z = torch.eye(2)
        >>> transition_error(z, -z, z)
        8.0
    """
    if z.ndim < 2:
        raise ValueError(f"z has shape {tuple(z.shape)}: expected (*, d), with two latents or more")
    same("moved", moved, z.shape, "that of z")
    same("predicted", predicted, z.shape, "that of z")
    rounding = torch.finfo(z.dtype).eps if z.is_floating_point() else 0.0
    z, gap = finite("z", z), finite("moved", moved) - finite("predicted", predicted)
    latents = z.flatten(0, -2)
    spread = (latents - latents.mean(0)).square().sum(-1).mean().item()
    # What is left of equal latents is rounding: its square, relative to their own.
    if spread <= 4 * rounding**2 * latents.square().sum(-1).mean().item():
        raise ValueError(
            f"z has no spread (tr Cov z = {spread:.3g} over {len(latents)} latents): the encoder "
            "has collapsed, and its equivariance error is undefined; look at its reconstructions"
        )
    return gap.square().sum(-1).mean().item() / spread


@torch.no_grad()
def trace_equivariance(
    encode: Callable[[Tensor], Tensor],
    rho: Callable[[Tensor], Tensor],
    observations: Tensor,
    actions: Tensor,
) -> float:
    """The equivariance error over all single steps of traces.

    Arguments:
        encode: h, from observations ``(m, *shape)`` to latents ``(m, d)``.
        rho: from actions to matrices ``(*, d, d)``.
        observations: traces of shape ``(n, steps + 1, *shape)``.
        actions: of shape ``(n, steps, *)``; the t-th leads from observation t to t + 1.

    Raises:
        ValueError: as ``equivariance_error``, or if there is not one more observation than actions.
    """
    traces(observations, actions)
    z = encode(observations.flatten(0, 1))
    z = z.unflatten(0, observations.shape[:2])
    return equivariance_error(z[:, :-1], z[:, 1:], rho(actions))
