r"""One element in place of a chain: from where a chain starts to the element that it composes to.

A chain of steps takes a start x to its end y, at a call of the denoiser a step. A network that has
seen starts and ends, its *traces*, does it at once. What it is asked for is a choice. Elements of
``groups.ScaleTranslation(n)`` with g·x = y are

    (s, y − s x),        s > 0,

one for each scale: they differ by what leaves x in place, and points do not tell them apart.

- A DDIM chain at η = 0 composes to s = 1/√ᾱ_T, whatever its start. It is the element of a single
  step from T to 0, b = −√(1/ᾱ_T − 1) ε̄, with ε̄ the noise that a single call would have to predict:
  an error in ε̄ counts √(1/ᾱ_T − 1) times in y.
- s = 1 are the translations b = y − x: nothing is enlarged.
- s → 0 is b = y: the end without the group.

With s fixed and y = s x + φ₁(ln s) v_θ(x), a mean square in log coordinates (ln s, v) is that of
points divided by φ₁(ln s)²: the two have the same minima, and what the group changes is the linear
map s x that v_θ is added to. This is all there is to gain or lose in the form alone, and what
``ElementStep`` and ``PointStep`` are for to measure.

The derivative of y by x, of ``diffusion.ddim_first_order``, tells more of every trace than its end.

References:
    Luhman and Luhman, *Knowledge distillation in iterative generative models for improved sampling
    speed*, 2021, https://arxiv.org/abs/2101.02388: noise and the sample that DDIM makes of it, as
    pairs. Salimans and Ho, *Progressive distillation for fast sampling of diffusion models*, 2022,
    https://arxiv.org/abs/2202.00512, sect. 4: predicted noise is no target for few steps. Czarnecki
    et al., *Sobolev training for neural networks*, 2017, https://arxiv.org/abs/1706.04859.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from manifold_ae.diffusion.schedule import require_vectors
from manifold_ae.groups import ScaleTranslation

__all__ = ["ElementStep", "OneStep", "PointStep"]


class OneStep(nn.Module, ABC):
    """x ↦ y at one call of a network: what the two read-outs share.

    Args:
        network: x of shape ``(*, n)`` → ``(*, outputs)``.
        n: the size of x.
    """

    def __init__(self, network: nn.Module, n: int) -> None:
        super().__init__()
        self.group = ScaleTranslation(n)
        self.network = network

    @property
    def n(self) -> int:
        """The size of x."""
        return self.group.n

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Where x ends, of shape ``(*, n)``."""

    def loss(
        self, x: Tensor, y: Tensor, derivative: Tensor | None = None, *, weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Named terms, averaged over a batch of traces.

        Args:
            x: starts, ``(batch, n)``.
            y: their ends, ``(batch, n)``.
            derivative: of y by x, ``(batch, n, n)``, row i that of y_i; or None.
            weight: w of the derivative's term.

        Returns:
            ``loss``, ``points`` + w ``derivative``; ``points``, |ŷ − y|²/n; ``derivative``, where
            one is given, |∂ŷ/∂x − ∂y/∂x|²/n.

        Raises:
            ValueError: if shapes or dtypes do not fit, values are not finite, or w is negative.
        """
        self._require("x", x, (*x.shape[:1], self.n))
        self._require("y", y, tuple(x.shape))
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight={weight!r}: expected a finite number of at least 0")
        if derivative is None:
            points = (self(x) - y).square().mean()
            return {"loss": points, "points": points.detach()}
        self._require("derivative", derivative, (*x.shape, self.n))
        start = x.detach().requires_grad_()
        end = self(start)
        points = (end - y).square().mean()
        rows = [
            torch.autograd.grad(end[..., i].sum(), start, create_graph=True)[0]
            for i in range(self.n)
        ]
        slopes = (torch.stack(rows, -2) - derivative).square().sum(-1).mean()
        return {
            "loss": points + weight * slopes,
            "points": points.detach(),
            "derivative": slopes.detach(),
        }

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """New points of shape ``(count, n)``, each at one call, from standard normal noise.

        Raises:
            ValueError: if ``count`` is below 1.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count={count!r}: expected how many, an integer of at least 1")
        weight = next(self.parameters())
        shape = (count, self.n)
        x = torch.randn(shape, generator=generator, dtype=weight.dtype, device=weight.device)
        return self(x)

    def _outputs(self, x: Tensor, count: int) -> Tensor:
        found = self.network(x)
        if found.shape != (*x.shape[:-1], count):
            raise ValueError(
                f"the network returned shape {tuple(found.shape)}: expected "
                f"{(*x.shape[:-1], count)}, {count} numbers for each x of {self!r}"
            )
        return found

    def _require(self, name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        require_vectors(name, value)
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}: expected {shape}")
        dtype = next(self.parameters(), value).dtype
        if value.dtype != dtype:
            raise ValueError(
                f"{name} has dtype {value.dtype}: expected {dtype}, that of the weights; convert "
                "one"
            )


class PointStep(OneStep):
    """y = f_θ(x): the end itself, of no group.

    Example:
        >>> PointStep(nn.Linear(2, 2), 2).sample(5).shape
        torch.Size([5, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._outputs(x, self.n)


class ElementStep(OneStep):
    """y = g_θ(x)·x: by an element of ``ScaleTranslation(n)``, in coordinates of its Lie algebra.

    Args:
        network: x of shape ``(*, n)`` → v of shape ``(*, n)``; with ``scale=None``, (ln s, v) of
            shape ``(*, n + 1)``.
        n: the size of x.
        scale: s > 0 for all x, or None, where it is a function of x that is learned too.

    Raises:
        ValueError: if the scale is not positive; when called, if the network returns another shape.

    Example:
        >>> model = ElementStep(nn.Linear(2, 2), 2, scale=1.0)
        >>> x = torch.ones(5, 2)
        >>> torch.equal(model(x), model.group.act(model.element(x), x))
        True
    """

    def __init__(self, network: nn.Module, n: int, scale: float | None = 1.0) -> None:
        super().__init__(network, n)
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(
                f"scale={scale!r}: expected a positive number, 1 for translations, or None for one "
                "that is learned"
            )
        self.scale = scale

    def extra_repr(self) -> str:
        return f"{self.group!r}, scale={self.scale}"

    def coordinates(self, x: Tensor) -> Tensor:
        """(ln s, v) of shape ``(*, n + 1)``."""
        if self.scale is None:
            return self._outputs(x, self.n + 1)
        v = self._outputs(x, self.n)
        return torch.cat([torch.full_like(v[..., :1], math.log(self.scale)), v], -1)

    def element(self, x: Tensor) -> Tensor:
        """g(x) = exp(ln s, v), of shape ``(*, n + 1)``."""
        return self.group.exp(self.coordinates(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.group.act(self.element(x), x)

    def log_loss(self, x: Tensor, element: Tensor) -> dict[str, Tensor]:
        """|log g_θ(x) − log g|²/n, averaged over a batch, for elements g of traces.

        Args:
            x: starts, ``(batch, n)``.
            element: of any scales, ``(batch, n + 1)``, such as ``Chain.element``.

        Raises:
            ValueError: if shapes or dtypes do not fit, values are not finite, or a scale is not
                positive.
        """
        self._require("x", x, (*x.shape[:1], self.n))
        self._require("element", element, (*x.shape[:-1], self.n + 1))
        gap = self.coordinates(x) - self.group.log(element)
        return {"loss": gap.square().sum(-1).mean() / self.n}
