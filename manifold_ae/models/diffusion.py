r"""Diffusion models: a network learns to predict the noise, and its predictions move data.

With ᾱ of a ``diffusion.Schedule``, x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε, the network ε̂ has the loss

    L = E |ε − ε̂(x_t, t)|²,        t uniform on 1, …, T,    ε ~ N(0, I),

per feature: 1 is that of predicting no noise at all. What is used of it afterwards is its
exponential moving average over the steps k = 1, 2, … of training,

    w̄ ← d_k w̄ + (1 − d_k) w,        d_k = min(ema, k/(k + 9)),

whose memory grows with k up to 1/(1 − ema) steps, so that the first weights are soon forgotten.

References:
    Ho, Jain and Abbeel, *Denoising diffusion probabilistic models*, 2020,
    https://arxiv.org/abs/2006.11239, eq. 14. On the average: Song and Ermon, *Improved techniques
    for training score-based generative models*, 2020, https://arxiv.org/abs/2006.09011, sect. 3.3.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae.diffusion import Chain, Denoiser, Schedule, samplers, vp_step
from manifold_ae.diffusion.schedule import Time
from manifold_ae.groups import ScaleTranslation

__all__ = ["DiffusionModel"]


class DiffusionModel(nn.Module):
    """A denoiser with its schedule, its loss, the average of its weights, and its samples.

    In training mode the weights as they are predict the noise; in evaluation mode, and in sampling,
    their average.

    Args:
        schedule: with ᾱ.
        denoiser: a network, ``denoiser(x, t)`` → predicted noise of the shape of x, on x of shape
            ``(*, *event_shape)``; t is an integer for all, or integers of shape ``(*)``. Any module
            of this form will do, such as a U-Net; see ``nn.denoiser``.
        event_shape: shape of one x.
        ema: how much of the average each step keeps, in [0, 1); 0 for none.

    Raises:
        ValueError: if ``ema`` is outside [0, 1), or the denoiser is made for another shape or has
            no parameters; when it is called, if it returns another shape than that of x.

    Example:
        >>> from manifold_ae.nn import MLPDenoiser
        >>> model = DiffusionModel(Schedule.cosine(100), MLPDenoiser(2), (2,)).eval()
        >>> model.sample(5, steps=10).shape
        torch.Size([5, 2])
    """

    updates: Tensor

    def __init__(
        self,
        schedule: Schedule,
        denoiser: nn.Module,
        event_shape: Sequence[int],
        ema: float = 0.999,
    ) -> None:
        super().__init__()
        if not 0 <= ema < 1:
            raise ValueError(
                f"ema={ema!r}: expected the part of an average that a step keeps, in [0, 1), such "
                "as 0.999, or 0 for no average"
            )
        own = getattr(denoiser, "event_shape", event_shape)
        if tuple(own) != tuple(event_shape):
            raise ValueError(
                f"event_shape={tuple(event_shape)}: the denoiser takes {tuple(own)}; build it for "
                "the shape of the data"
            )
        if next(denoiser.parameters(), None) is None:
            raise ValueError(
                f"denoiser={type(denoiser).__name__}: expected a module with parameters to learn; "
                "a known denoiser goes to diffusion.samplers as it is"
            )
        self.schedule = schedule
        self.event_shape = tuple(event_shape)
        self.ema = float(ema)
        self.network = denoiser
        # Parameters, not buffers, that need no gradient: they move and load with the rest.
        self.average = copy.deepcopy(denoiser).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What an optimiser is to move: the network, and not its average."""
        return [{"params": list(self.network.parameters())}]

    @property
    def features(self) -> int:
        """The number of elements of one x: the n of the group that steps are elements of."""
        return math.prod(self.event_shape)

    def extra_repr(self) -> str:
        return f"{self.schedule!r}, event_shape={self.event_shape}, ema={self.ema:g}"

    # ---- training ---------------------------------------------------------------------------

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Named terms, averaged over a batch x of shape ``(n, *event_shape)``.

        The n times are one from each n-th part of 1, …, T: uniform each, and of less variance
        together than if they were independent.

        Returns:
            ``loss``, |ε − ε̂|² per feature; ``mse``, without a gradient: (1 − ᾱ_t) |ε − ε̂|² per
            feature, the squared error of √ᾱ_t x̂₀, the signal in x_t.

        Raises:
            ValueError: if x has another shape or dtype than the model, or is not finite.
        """
        self._require_batch(x)
        count, device = len(x), x.device
        # One place in each n-th part, in an order that has nothing to do with that of x.
        parts = torch.randperm(count, generator=generator, device=device)
        place = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
        times = ((parts + place) * (self.schedule.steps / count)).long() + 1
        # Rounding may make of the last place one past the end.
        times = times.clamp_max(self.schedule.steps)
        noise = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)
        errors = self.errors(x, times, noise)
        with torch.no_grad():
            left = 1 - self.schedule.at(times).squeeze(-1).to(x.dtype)
            mse = (left * errors).mean()
        return {"loss": errors.mean(), "mse": mse}

    forward = loss

    def errors(self, x: Tensor, t: Time, noise: Tensor) -> Tensor:
        """|ε − ε̂(x_t, t)|² per feature, of shape ``(n)``, for clean x ``(n, *event_shape)``.

        x_t is what the element of t noising steps at once, ``vp_step(…, s=0)``, makes of x.
        """
        element = vp_step(self.schedule, t, noise.flatten(1), s=0)
        noisy = ScaleTranslation(self.features).act(element, x.flatten(1))
        predicted = self._predict(self._active, noisy.unflatten(-1, self.event_shape), t)
        return (noise - predicted.to(noise.dtype)).flatten(1).square().mean(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights after a step of the optimiser into their average."""
        self.updates += 1
        k = self.updates.double()
        kept = torch.clamp(k / (k + 9), max=self.ema)
        for mean, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(weight, (1 - kept).to(weight.dtype))
        for own, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            own.copy_(buffer)

    @torch.no_grad()
    def statistics(self, x: Tensor) -> dict[str, float]:
        """Figures on a batch, for the report on a loss that is not finite."""
        return {
            "largest |x|": x.abs().max().item(),
            "root mean square of x": x.square().mean().sqrt().item(),
            "largest |weight|": max(w.abs().max().item() for w in self.network.parameters()),
        }

    @property
    def _active(self) -> nn.Module:
        return self.network if self.training else self.average

    def _require_batch(self, x: Tensor) -> None:
        weight = next(self.network.parameters())
        if tuple(x.shape[1:]) != self.event_shape or x.dim() < 1 or len(x) < 1:
            shape = ", ".join(map(str, self.event_shape))
            raise ValueError(f"x has shape {tuple(x.shape)}: expected (n, {shape}), n at least 1")
        if x.dtype != weight.dtype:
            raise ValueError(
                f"x has dtype {x.dtype}: expected {weight.dtype}, that of the weights; convert one"
            )

    # ---- use --------------------------------------------------------------------------------

    @property
    def denoiser(self) -> Denoiser:
        """ε̂ as ``diffusion.samplers`` and ``diffusion.diffusion_trace`` take it, on rows.

        Rows ``(*, features)`` may be of either floating-point dtype, and are returned in theirs.
        """
        network = self._active
        return lambda x, t: self._on_rows(network, x, t)

    def _predict(self, network: nn.Module, x: Tensor, t: Time) -> Tensor:
        predicted = network(x, t)
        # A channel too many would be broadcast against the noise, and learn nothing.
        if predicted.shape != x.shape:
            raise ValueError(
                f"the denoiser returned {tuple(predicted.shape)}: expected {tuple(x.shape)}, the "
                "noise predicted for each entry of x; pictures without a channel have none here"
            )
        return predicted

    def _on_rows(self, network: nn.Module, x: Tensor, t: Time) -> Tensor:
        if x.dim() < 1 or x.shape[-1] != self.features:
            raise ValueError(
                f"x has shape {tuple(x.shape)}: expected (*, {self.features}), a row for each"
            )
        self.schedule.require_order(t, 0)
        dtype = next(network.parameters()).dtype
        predicted = self._predict(network, x.to(dtype).unflatten(-1, self.event_shape), t)
        return predicted.flatten(x.dim() - 1).to(x.dtype)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        steps: int = 50,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n new x of shape ``(n, *event_shape)``, by DDIM steps from standard normal noise.

        Args:
            n: how many.
            steps: how many, each a call of the network, evenly spaced over the T times.
            eta: η ≥ 0: 0 for a deterministic map of the noise, 1 for the variance β̃ of DDPM.
            generator: where the noise comes from.
            progress: whether to show a bar.

        Raises:
            ValueError: if n or ``steps`` is below 1, there are more than T steps, or η is negative.
        """
        x, times = self._start(n, steps, generator)
        network = self._averaged
        made = samplers.ddim(
            network, self.schedule, x, times, eta=eta, generator=generator, progress=progress
        )
        return made.unflatten(-1, self.event_shape)

    @torch.no_grad()
    def chain(
        self,
        n: int,
        *,
        steps: int = 50,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        progress: bool = False,
    ) -> Chain:
        """As ``sample``, on rows, with all states and elements on the way.

        Its end are the samples that ``sample`` draws of the same generator.
        """
        x, times = self._start(n, steps, generator)
        network = self._averaged
        return samplers.ddim_chain(
            network, self.schedule, x, times, eta=eta, generator=generator, progress=progress
        )

    @property
    def _averaged(self) -> Denoiser:
        return lambda x, t: self._on_rows(self.average, x, t)

    def _start(
        self, n: int, steps: int, generator: torch.Generator | None
    ) -> tuple[Tensor, tuple[int, ...]]:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n={n!r}: expected how many samples, an integer of at least 1")
        weight = next(self.network.parameters())
        shape = (n, self.features)
        x = torch.randn(shape, generator=generator, dtype=weight.dtype, device=weight.device)
        return x, self.schedule.times(steps)
