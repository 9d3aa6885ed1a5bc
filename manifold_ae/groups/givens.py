r"""Representations by Givens rotations, as in Quessard et al.: to compare with.

    ρ(X) = Π_{i<j} R_{ij}(θ_{ij}(X)),   θ(X) = W X,

a product of rotations in all coordinate planes, in a fixed order, with angles linear in the action.
ρ(0) = I and ρ is orthogonal, but nothing makes it a homomorphism: rotations in planes that share an
axis do not commute, so neither ρ(X)ρ(−X) = I nor the one-parameter law holds unless the planes with
angles are disjoint.

References:
    R. Quessard, T. Barrett, W. Clements, *Learning Disentangled Representations and Group Structure
    of Dynamical Environments*, NeurIPS 2020, §3, https://arxiv.org/abs/2002.06991
"""

import itertools

import torch
from torch import Tensor, nn

from manifold_ae.groups.base import Group, LieGroup, check_size, product, require_dtype
from manifold_ae.groups.finite_group import FiniteGroup

__all__ = ["GivensRepresentation"]


class GivensRepresentation(nn.Module):
    """See the module's docstring; called on actions, it gives matrices ``(*, size, size)``.

    Of a finite group the angles are a free row for each element, as in the paper, whose actions are
    discrete.
    """

    def __init__(self, group: Group, size: int) -> None:
        super().__init__()
        check_size(type(self).__name__, size, 2, "size")
        self.group, self.size = group, size
        self.planes = list(itertools.combinations(range(size), 2))
        rows = group.order if isinstance(group, FiniteGroup) else group.dim
        self.weight = nn.Parameter(torch.randn(rows, len(self.planes)) / len(self.planes) ** 0.5)

    def forward(self, action: Tensor) -> Tensor:
        if isinstance(self.group, LieGroup):
            self.group._require_coordinates("X", action)
            require_dtype("X", action, self.weight.dtype)
            angles = product(action, self.weight)
        else:
            self.group._require_element("g", action)
            angles = self.weight[action.long()]
        c, s = angles.cos(), angles.sin()
        eye = torch.eye(self.size, dtype=angles.dtype, device=angles.device)
        columns = list(eye.expand(*angles.shape[:-1], -1, -1).unbind(-1))
        for k, (i, j) in enumerate(self.planes):
            a, b = columns[i], columns[j]
            cosine, sine = c[..., k, None], s[..., k, None]
            columns[i], columns[j] = cosine * a + sine * b, cosine * b - sine * a
        return torch.stack(columns, -1)

    def of(self, g: Tensor) -> Tensor:
        """ρ of elements g, by their principal logarithm."""
        return self(self.group.log(g) if isinstance(self.group, LieGroup) else g)

    def penalties(self) -> dict[str, Tensor]:
        """One: ``frequency``, the mean of |angle| over the basis, as of a linear φ."""
        return {"frequency": self.weight.abs().sum(0).mean()}
