r"""The closest point of a level set {x : F(x) = 0}, F: ℝᴰ → ℝᵏ, solved for and differentiated.

The closest point x to y, with its multipliers λ, solves Lagrange's conditions

    x − y + DF(x)ᵀ λ = 0,    F(x) = 0.                                                        (1)

It is found by descent of ½|x − y|² *on* the set: Newton's step in the tangent space, with the
Hessian of the Lagrangian made positive by the absolute values of its eigenvalues, then Newton's
method back onto the set along DFᵀ, and backtracking. A stationary point that is no minimum is left
along the direction of negative curvature. What is found is a local minimum: of two sheets that
are about as close, it may be the farther.

Derivatives come from Newton's method too. Its step for (1), from a solution that is held constant,
has an error of second order in the change of y, and two steps one of fourth order: so two steps,
left to autograd, have the derivatives of x(y) up to the third exactly (implicit function theorem).

On the set itself nothing has to be solved: with J = DF and J⁺ = Jᵀ(JJᵀ)⁻¹, the tangent projector is
I − J⁺J, and II(u, v) = −J⁺ D²F[u, v] (differentiate F(γ(s)) = 0 twice along a curve γ).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from manifold_ae.manifolds.derivatives import (
    gradient,
    hessian,
    hessians,
    jacobian,
    value_and_jacobian,
)

__all__ = ["ClosestPoint"]

#: Steps of either loop; both converge quadratically, in 5 to 10 as a rule.
MAX_STEPS = 100
#: Newton steps after convergence, which carry the derivatives (see above).
POLISHING = 2


class ClosestPoint:
    """The projection y ↦ x onto the set where ``level_set`` vanishes.

    Arguments:
        level_set: maps ``(*, *ambient_shape)`` to ``(*, k)``, or to ``(*)`` for k = 1; twice
            differentiable, with DF(x) of rank k on the set.
        ambient_shape: shape of a point.
        name: what errors call the set.
    """

    def __init__(
        self, level_set: Callable[[Tensor], Tensor], ambient_shape: tuple[int, ...], name: str
    ) -> None:
        self.level_set, self.ambient_shape, self.name = level_set, ambient_shape, name

    def constraints(self, x: Tensor) -> Tensor:
        """F at flat points ``(n, D)``, of shape ``(n, k)``."""
        value = self.level_set(x.reshape(-1, *self.ambient_shape))
        if value.shape[:1] != x.shape[:1] or value.dim() > 2:
            raise ValueError(
                f"level_set of {self.name!r} maps {(len(x), *self.ambient_shape)} to "
                f"{tuple(value.shape)}; expected ({len(x)},) or ({len(x)}, k)"
            )
        return value.unsqueeze(-1) if value.dim() == 1 else value

    def __call__(self, y: Tensor) -> Tensor:
        """Closest points of shape ``(*, *ambient_shape)``.

        Raises:
            RuntimeError: if the solver does not converge, or a y is a focal point, where the
                closest point is not a differentiable function.
        """
        dim = math.prod(self.ambient_shape)
        flat = y.reshape(y.numel() // dim, dim)
        x, found = self.solve(flat)
        if not bool(found.all()):
            bad = flat.detach()[~found][0]
            raise RuntimeError(
                f"level_set of {self.name!r}: no closest point found for {int((~found).sum())} of "
                f"{len(flat)} points in {MAX_STEPS} steps, the first to {bad.tolist()}: no zero of "
                "it is near, its gradient is not of full rank there, or the point is a focal one, "
                "where the closest point is not differentiable. Start closer to the set, or give "
                "project= instead"
            )
        return x.reshape(y.shape)

    def project(self, y: Tensor) -> Tensor:
        """Closest points to flat y ``(n, D)``."""
        return self(y)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """(I − J⁺J) u, for flat points and vectors ``(n, D)``."""
        slopes = jacobian(self.constraints, x)
        return u - self._normal(slopes, slopes @ u.unsqueeze(-1)).squeeze(-1)

    def bend(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """II(u, v), for flat points and tangent vectors ``(n, D)``."""

        def along(x: Tensor) -> Tensor:
            return (jacobian(self.constraints, x) @ u.unsqueeze(-1)).squeeze(-1)

        curved = jacobian(along, x) @ v.unsqueeze(-1)
        return -self._normal(jacobian(self.constraints, x), curved).squeeze(-1)

    def form(self, x: Tensor) -> Tensor:
        """II as a tensor ``(n, D, D, D)``, its normal axis first."""
        slopes = jacobian(self.constraints, x)
        tangent = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        tangent = tangent - self._normal(slopes, slopes)
        curved = torch.einsum("nkab,nau,nbv->nkuv", hessians(self.constraints, x), tangent, tangent)
        return -self._normal(slopes, curved.flatten(2)).unflatten(2, curved.shape[2:])

    @staticmethod
    def _normal(slopes: Tensor, values: Tensor) -> Tensor:
        """J⁺ values."""
        return slopes.mT @ torch.linalg.solve(slopes @ slopes.mT, values)

    def solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Closest points to flat y ``(n, D)``, differentiable, and which of them are found.

        Where none is, the row means nothing.
        """
        with torch.no_grad():
            start = y.detach()
            x, found = self._descend(start)
        if bool(found.all()):
            solved, regular = self._polish(y, x)
            return solved, regular
        if bool(found.any()):
            solved, regular = self._polish(y[found], x[found])
            y = y.index_put((found,), solved)
            found[found.clone()] = regular
        return y, found

    def _polish(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's steps for (1) from a solution, which carry the derivatives in y.

        And where they can be made: not at focal points, where x(y) has no derivative.
        """
        with torch.no_grad():
            slopes = jacobian(self.constraints, x)
            # Equations of slope one, so that the matrix below is as well-conditioned as M is.
            scale = 1 / torch.linalg.vector_norm(slopes, dim=-1)
            slopes = slopes * scale.unsqueeze(-1)
            multipliers, info = torch.linalg.solve_ex(
                slopes @ slopes.mT, slopes @ (y.detach() - x).unsqueeze(-1)
            )
            multipliers = multipliers.squeeze(-1)
            regular = (info == 0) & torch.isfinite(multipliers).all(-1)

        def scaled(x: Tensor) -> Tensor:
            return self.constraints(x) * scale

        dim, count = x.shape[-1], scale.shape[-1]
        identity = torch.eye(dim, dtype=x.dtype, device=x.device)
        zero = torch.zeros(len(x), count, count, dtype=x.dtype, device=x.device)
        for _ in range(POLISHING):
            slopes = jacobian(scaled, x)
            curved = identity + hessian(scaled, x, multipliers)
            stationarity = x - y + gradient(scaled, x, multipliers)
            matrix = torch.cat(
                [torch.cat([curved, slopes.mT], -1), torch.cat([slopes, zero], -1)], -2
            )
            residual = torch.cat([stationarity, scaled(x)], -1)
            step, info = torch.linalg.solve_ex(matrix, residual.unsqueeze(-1))
            regular = regular & (info == 0)
            x = x - step[:, :dim, 0]
            multipliers = multipliers - step[:, dim:, 0]
        return x, regular & torch.isfinite(x.detach()).all(-1)

    def _descend(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Descent of the distance on the set, to half the digits; without derivatives."""
        eps = torch.finfo(y.dtype).eps
        x, found = self._restore(y)
        lost = ~found
        if bool(lost.any()):
            # Where the gradient vanishes, as at the centre of a sphere, any way out is as good.
            size = 1e-2 * (1 + torch.linalg.vector_norm(y[lost], dim=-1, keepdim=True))
            aside = torch.linspace(1, 2, y.shape[-1], dtype=y.dtype, device=y.device)
            x[lost], found[lost] = self._restore(y[lost] + size * aside)
        active = found.nonzero().squeeze(-1)
        found = torch.zeros_like(found)
        reach = torch.ones_like(y[:, 0])
        for _ in range(MAX_STEPS):
            if not len(active):
                break
            here, there = x[active], y[active]
            step, slope, flat = self._tangent_step(here, there)
            length = torch.linalg.vector_norm(step, dim=-1)
            size = 1 + torch.linalg.vector_norm(here, dim=-1)
            done = flat & (length <= 4 * eps**0.5 * size)
            found[active[done]] = True
            factor = reach[active]
            moved, back = self._restore(here + factor.unsqueeze(-1) * step)
            # |x' − y|² − |x − y|², without cancellation.
            change = ((moved - here) * (moved + here - 2 * there)).sum(-1)
            lower = change <= 1e-4 * factor * slope
            # So close that the change is rounding.
            near = flat & (length <= eps**0.4 * size)
            accepted = back & (lower | near) & ~done
            x[active[accepted]] = moved[accepted]
            reach[active] = torch.where(accepted, (2 * factor).clamp_max(1), factor / 2)
            active = active[~done]
        return x, found

    def _tangent_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step in the tangent space at x, slope of |x − y|² along it, whether x is no maximum."""
        slopes = jacobian(self.constraints, x)
        q, r = torch.linalg.qr(slopes.mT, mode="complete")
        count = slopes.shape[-2]
        normal, tangent = q[..., :count], q[..., count:]
        away = (y - x).unsqueeze(-1)
        multipliers = torch.linalg.solve_triangular(
            r[..., :count, :], normal.mT @ away, upper=True
        ).squeeze(-1)
        curved = hessian(self.constraints, x, multipliers)
        reduced = tangent.mT @ curved @ tangent
        identity = torch.eye(tangent.shape[-1], dtype=x.dtype, device=x.device)
        value, vector = torch.linalg.eigh(identity + (reduced + reduced.mT) / 2)
        downhill = vector.mT @ (tangent.mT @ away)
        coordinates = downhill / value.abs().clamp_min(1e-3).unsqueeze(-1)
        slope = -2 * (downhill * coordinates).sum((-2, -1))
        # At a stationary point that is no minimum, the way down is an eigenvector.
        distance = torch.linalg.vector_norm(away, dim=-2)
        flat = value[:, 0] > -1e-6
        saddle = ~flat & (
            torch.linalg.vector_norm(coordinates, dim=(-2, -1)) < 1e-3 * distance[:, 0]
        )
        escape = torch.zeros_like(coordinates)
        escape[:, 0] = 0.1 * distance
        coordinates = torch.where(saddle[:, None, None], escape, coordinates)
        slope = torch.where(saddle, 0.0, slope)
        return (tangent @ (vector @ coordinates)).squeeze(-1), slope, flat

    def _restore(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's method onto the set, damped, and which points arrive."""
        eps = torch.finfo(x.dtype).eps
        x = x.clone()
        arrived = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        active = torch.arange(len(x), device=x.device)
        reach = torch.ones_like(x[:, 0])
        for _ in range(MAX_STEPS):
            if not len(active):
                break
            here = x[active]
            value, slopes = value_and_jacobian(self.constraints, here)
            pulled, info = torch.linalg.solve_ex(slopes @ slopes.mT, value.unsqueeze(-1))
            step = -(slopes.mT @ pulled).squeeze(-1)
            length = torch.linalg.vector_norm(step, dim=-1)
            usable = (info == 0) & torch.isfinite(length)
            close = usable & (length <= 4 * eps**0.5 * (1 + torch.linalg.vector_norm(here, dim=-1)))
            factor = torch.where(close, 1.0, reach[active])
            moved = here + factor.unsqueeze(-1) * step
            after = torch.linalg.vector_norm(self.constraints(moved), dim=-1)
            before = torch.linalg.vector_norm(value, dim=-1)
            accepted = usable & (close | (after <= (1 - 1e-4 * factor) * before))
            x[active[accepted]] = moved[accepted]
            arrived[active[close]] = True
            reach[active] = torch.where(accepted, (2 * factor).clamp_max(1), factor / 2)
            active = active[usable & ~close]
        return x, arrived
