r"""The affine representation of ℝ₊ ⋉ ℝⁿ, whole or of a projection: cheap at any n.

The group acts on (x, 1) by [[s I, b], [0, 1]], and with any P of shape (r, n) on (Px, 1) by

    ρ(s, b) = [[s I, P b], [0, 1]],        φ(a, v) = [[a I, P v], [0, 0]],        ρ = exp φ,

since (s, b) ↦ (s, Pb) is a homomorphism: whatever P is learned, ρ(gh) = ρ(g)ρ(h) holds by
construction, and no bracket is left to penalise. A step costs r (n + 1) multiplications where a
matrix of size n + 1 has (n + 1)² entries, and needs no exponential of a matrix; a free linear φ
(``LearnedRepresentation``) has n + 1 matrices to learn.

Nothing is given away by this form. An equivariant code is a function of N_x h(0), which is linear
in x: see *How small a latent can be* in the theory of diffusion steps. So of the codes of size
r + 1, none tells more points apart than (Px, 1) does for the best P.
"""

import torch
from torch import Tensor, nn

from manifold_ae.groups.base import Group, product
from manifold_ae.groups.homogeneous import homogeneous
from manifold_ae.groups.scale_translation import ScaleTranslation
from manifold_ae.numerics import expm1_ratio

__all__ = ["AffineRepresentation"]


class AffineRepresentation(nn.Module):
    """See the module's docstring; called on actions, it gives matrices ``(*, size, size)``.

    ``act`` and ``rollout`` move latents without them.

    Args:
        group: ``ScaleTranslation(n)``, with one scale.
        size: r + 1, for a learned P, which starts with random orthonormal rows; without it P = I is
            given, of size n + 1, and there is nothing to learn.

    Raises:
        ValueError: if the group is another one, or the size not from 2 to n + 1.

    Example:
        >>> rho = AffineRepresentation(ScaleTranslation(784), 33)
        >>> z, actions = torch.randn(5, 33), torch.randn(5, 10, 785)
        >>> rho.rollout(actions, z).shape, sum(p.numel() for p in rho.parameters())
        (torch.Size([5, 10, 33]), 25088)
    """

    #: φ is linear in the action.
    phi = "linear"

    def __init__(self, group: Group, size: int | None = None) -> None:
        super().__init__()
        if not isinstance(group, ScaleTranslation) or group.diagonal:
            raise ValueError(
                f"group = {group!r}: expected ScaleTranslation(n) with one scale; of another group "
                "learn LearnedRepresentation(group, size)"
            )
        n = group.n
        if size is not None and (
            isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= n + 1
        ):
            raise ValueError(
                f"size = {size!r}: expected an integer from 2 to {n + 1}, as the translations of "
                f"{group!r} have {n} dimensions; leave it out for all of them, as they are"
            )
        self.group, self.size = group, n + 1 if size is None else size
        self.block_sizes = (self.size,)  # what the last coordinate moves, no basis parts from it
        self.projection: nn.Parameter | None = None
        if size is not None:
            self.projection = nn.Parameter(nn.init.orthogonal_(torch.empty(size - 1, n)))

    def _parts(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scales a ``(*, 1)`` and P v ``(*, r)`` of actions ``(*, n + 1)``."""
        self.group._require_coordinates("X", action)
        a, v = action[..., :1], action[..., 1:]
        if self.projection is None:
            return a, v
        if action.dtype != self.projection.dtype:
            raise ValueError(
                f"X has dtype {action.dtype}, the projection {self.projection.dtype}: convert one "
                "of them with .to(dtype)"
            )
        with torch.autocast(action.device.type, enabled=False):
            return a, product(v, self.projection.mT)

    def _elements(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Scales s ``(*, 1)`` and P b ``(*, r)``."""
        a, moved = self._parts(action)
        return torch.exp(a), expm1_ratio(a) * moved

    def _latents(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.shape[-1:] != (self.size,):
            raise ValueError(
                f"z has shape {tuple(z.shape)}; latents have trailing shape ({self.size},)"
            )
        return z[..., :-1], z[..., -1:]

    # ---- what it gives ----------------------------------------------------------------------

    def forward(self, action: Tensor) -> Tensor:
        s, b = self._elements(action)
        return homogeneous(torch.diag_embed(s.expand(b.shape)), b)

    def of(self, g: Tensor) -> Tensor:
        """ρ of elements g of shape ``(*, n + 1)``: scale, then translation."""
        return self(self.group.log(g))

    def generator(self, action: Tensor) -> Tensor:
        """φ of actions, of shape ``(*, size, size)``."""
        a, moved = self._parts(action)
        return homogeneous(torch.diag_embed(a.expand(moved.shape)), moved, 0.0)

    def generators(self) -> Tensor:
        """φ of the basis of the Lie algebra, of shape ``(n + 1, size, size)``: for small n."""
        like = next(self.parameters(), torch.empty(0))
        eye = torch.eye(self.group.dim, dtype=like.dtype, device=like.device)
        return self.generator(eye)

    def code(self, x: Tensor) -> Tensor:
        """(Px, 1) of shape ``(*, size)`` for points x ``(*, n)``: the code that ρ moves exactly.

        A linear encoder that starts from it starts equivariant, and has P alone left to learn.
        """
        if x.shape[-1:] != (self.group.degree,):
            raise ValueError(f"x has shape {tuple(x.shape)}: expected (*, {self.group.degree})")
        u = x if self.projection is None else product(x, self.projection.mT)
        return torch.cat([u, torch.ones_like(u[..., :1])], -1)

    def act(self, action: Tensor, z: Tensor) -> Tensor:
        """ρ(X) z for latents z = (u, c) of shape ``(*, size)``: (s u + c P b, c)."""
        s, b = self._elements(action)
        u, c = self._latents(z)
        moved = s * u + c * b
        return torch.cat([moved, c.expand(*moved.shape[:-1], 1)], -1)

    def rollout(self, actions: Tensor, z: Tensor) -> Tensor:
        """ρ(X_t) … ρ(X_1) z for t = 1 … T, of shape ``(*, T, size)``.

        Args:
            actions: of shape ``(*, T, n + 1)``.
            z: latents before the first action, of shape ``(*, size)``.
        """
        if actions.dim() < 2 or not actions.shape[-2]:
            raise ValueError(
                f"actions has shape {tuple(actions.shape)}: expected (*, T, {self.group.dim}), one "
                "step or more"
            )
        # All projections at once: one product of matrices for the whole trace.
        s, b = self._elements(actions)
        u, c = self._latents(z)
        path = []
        for scale, moved in zip(s.unbind(-2), (c.unsqueeze(-2) * b).unbind(-2), strict=True):
            u = scale * u + moved
            path.append(u)
        states = torch.stack(path, -2)
        return torch.cat([states, c.unsqueeze(-2).expand(*states.shape[:-1], 1)], -1)

    def extra_repr(self) -> str:
        kind = "given" if self.projection is None else "learned"
        return f"{self.group!r}, size={self.size}, projection={kind}"
