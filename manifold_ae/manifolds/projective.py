r"""Real projective spaces: lines through the origin, or unit vectors without a sign."""

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.base import check_dimension, check_prime
from manifold_ae.manifolds.quotient import Quotient
from manifold_ae.manifolds.sphere import Sphere
from manifold_ae.numerics import Fused

__all__ = ["RealProjective"]


class _LeadingEigenvector(Fused):
    @staticmethod
    def value(matrix: Tensor) -> tuple[Tensor, ...]:
        # LAPACK refuses NaN for the whole batch; here it stays with the matrices that hold any.
        finite = torch.isfinite(matrix).all(-1).all(-1)[..., None, None]
        values, vectors = torch.linalg.eigh(torch.where(finite, matrix, 0.0))
        vectors = torch.where(finite, vectors, torch.nan)
        return vectors[..., -1], values, vectors

    @staticmethod
    def derivative(gradient: Tensor, *saved: Tensor) -> tuple[Tensor]:
        matrix, values, vectors = saved
        gaps = values[..., -1:] - values[..., :-1]
        root = torch.finfo(gaps.dtype).eps ** 0.5
        # Nor may the inverse of a gap overflow.
        floor = root * values.abs().amax(-1, keepdim=True) + torch.finfo(gaps.dtype).tiny / root
        open_ = gaps > floor
        weights = torch.where(open_, 1 / torch.where(open_, gaps, 1.0), 0.0)
        others, leading = vectors[..., :-1], vectors[..., -1:]

        def inverse(column: Tensor) -> Tensor:
            """(λ − A)⁻¹ on the eigenvectors whose gap is open, of shape ``(*, n, 1)``."""
            return others @ (weights.unsqueeze(-1) * (others.mT @ column))

        column = gradient.unsqueeze(-1)
        if torch.is_grad_enabled():  # to be differentiated again
            again = _LeadingEigenvector.of(matrix).unsqueeze(-1)
            # The sign of an eigenvector is the decomposition's choice.
            leading = again * (again * leading).sum(-2, keepdim=True).sign().detach()
            column = column - leading * (leading.mT @ column)
            eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            shifted = (leading.mT @ matrix @ leading) * eye - matrix
            simple = open_.all(-1)[..., None, None]
            scale = values[..., -1:, None] - values[..., :1, None]
            full = shifted + scale * leading * leading.mT
            solved = torch.linalg.solve(torch.where(simple, full, eye), column)
            # Elsewhere by the inverse on what is determined, which one step of Newton's method lets
            # depend on the matrix.
            partial = inverse(column)
            partial = partial + inverse(column - shifted @ partial)
            side = torch.where(simple, solved, partial)
        else:
            side = inverse(column)
        half = side @ leading.mT
        return ((half + half.mT) / 2,)


class RealProjective(Quotient):
    r"""ℝPᵈ = Sᵈ/±1; points of shape ``(*, d + 1)``, a unit vector up to sign.

    Distances are at most π/2; the volume is half that of Sᵈ. For models, a point is the leading
    eigenvector's line of a symmetric matrix (so that an encoder maps *into* ℝPᵈ, which no
    normalised vector does continuously), and a decoder sees the entries of x xᵀ.

    Example:
        >>> M = RealProjective(2)
        >>> x = M.base_point()
        >>> M.dist(x, -x)
        tensor(0.)
    """

    name = "RealProjective"

    def __init__(self, dim: int) -> None:
        self._dim = check_dimension("RealProjective", dim)
        size = dim + 1
        super().__init__(Sphere(dim), [-np.eye(size)])
        rows, columns = np.triu_indices(size)
        self._upper = rows.tolist(), columns.tolist()

    @property
    def _key(self) -> tuple[int]:
        return (self._dim,)

    def __repr__(self) -> str:
        return f"RealProjective({self._dim})"

    @property
    def spec(self) -> str:
        return f"projective:{self._dim}"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """All one over ℤ/2; else those of a sphere for odd d, of a point for even d."""
        if check_prime(prime) == 2:
            return (1,) * (self._dim + 1)
        return (1, *[0] * (self._dim - 1), self._dim % 2)

    # ---- for models -------------------------------------------------------------------------

    @property
    def sheets(self) -> int:  # type: ignore[override]
        return 1

    def unfold(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0)

    @property
    def feature_size(self) -> int:
        return len(self._upper[0])

    def from_features(self, features: Tensor) -> Tensor:
        """The leading eigenvector of the symmetric matrix with these upper entries.

        Where the leading eigenvalue is not simple the line is not determined: one is chosen, and
        what of the gradient would be infinite is zero.
        """
        self._require("features", features, (self.feature_size,))
        rows, columns = self._upper
        size = self._dim + 1
        matrix = features.new_zeros(*features.shape[:-1], size, size)
        matrix[..., rows, columns] = features
        matrix[..., columns, rows] = features
        return _LeadingEigenvector.of(matrix)

    @property
    def embedding_size(self) -> int:
        return self.feature_size

    def embed(self, x: Tensor) -> Tensor:
        """The upper entries of x xᵀ: ``from_features`` leads back to x."""
        rows, columns = self._upper
        return x[..., rows] * x[..., columns]
