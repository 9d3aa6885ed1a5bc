r"""The von Mises–Fisher posterior of the hyperspherical VAE, to compare with; of no use elsewhere.

    q(x) ∝ e^{κ⟨z, x⟩} on S^{m−1},    E⟨z, x⟩ = A(κ) = I_{m/2}(κ)/I_{m/2−1}(κ)

w = ⟨z, x⟩ is drawn by inversion on S², by rejection elsewhere (Ulrich, 1984; Wood, *Simulation of
the von Mises Fisher distribution*, 1994), and a fixed pole is reflected to z. The gradient passes
through the accepted proposal alone. The divergence from the uniform law is

    κ A(κ) + (m/2 − 1) log κ − (m/2) log 2π − log I_{m/2−1}(κ) + log Vol,    of slope κ A'(κ).

Where the package ``hyperspherical_vae`` is installed (N. De Cao, T. R. Davidson, L. Falorsi,
github.com/nicola-decao/s-vae-pytorch; on no package index) that is measured, else this,
written after the paper.

Reference: T. R. Davidson, L. Falorsi, N. De Cao, T. Kipf, J. M. Tomczak, *Hyperspherical
Variational Auto-Encoders*, 2018, algorithms 1 and 2, https://arxiv.org/abs/1804.00891
"""

import importlib.util
import math
from typing import Any

import torch
from scipy import special
from torch import Tensor

from manifold_ae.manifolds import Sphere

__all__ = ["INSTALLED", "VonMisesFisher", "sample_and_divergence"]

INSTALLED = importlib.util.find_spec("hyperspherical_vae") is not None


class _Divergence(torch.autograd.Function):
    """KL to the uniform law; Bessel's functions by scipy, and so on the CPU."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, m: int) -> Tensor:
        k = kappa.detach().cpu().double().numpy()
        scaled = special.ive(m / 2 - 1, k)
        mean = special.ive(m / 2, k) / scaled
        slope = k * (1 - mean**2 - (m - 1) / k * mean)
        ctx.save_for_backward(torch.from_numpy(slope).to(kappa))
        log_volume = math.log(Sphere(m - 1).volume)
        log_normaliser = (m / 2 - 1) * special.xlogy(1, k) - m / 2 * math.log(2 * math.pi)
        value = k * mean + log_normaliser - special.xlogy(1, scaled) - k + log_volume
        return torch.from_numpy(value).to(kappa)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return gradient * slope, None


class VonMisesFisher:
    """The law at locations ``(n, m)`` of concentrations ``(n,)``."""

    def __init__(self, loc: Tensor, kappa: Tensor) -> None:
        self.loc, self.kappa, self.m = loc, kappa, loc.shape[-1]

    def rsample(self) -> Tensor:
        w = (self._by_inversion() if self.m == 3 else self._by_rejection()).unsqueeze(-1)
        v = torch.randn(*self.loc.shape[:-1], self.m - 1).to(self.loc)
        v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        tiny = torch.finfo(w.dtype).eps
        x = torch.cat([w, (1 - w * w).clamp_min(tiny).sqrt() * v], -1)
        # The reflection that takes the pole to the location.
        pole = torch.zeros_like(self.loc)
        pole[..., 0] = 1
        u = pole - self.loc
        u = u / torch.linalg.vector_norm(u, dim=-1, keepdim=True).clamp_min(tiny)
        return x - 2 * (x * u).sum(-1, keepdim=True) * u

    def _by_inversion(self) -> Tensor:
        u = torch.rand_like(self.kappa).clamp_min(torch.finfo(self.kappa.dtype).tiny)
        return 1 + torch.logaddexp(u.log(), torch.log1p(-u) - 2 * self.kappa) / self.kappa

    def _by_rejection(self) -> Tensor:
        n, kappa = self.m - 1, self.kappa.detach()
        root = torch.sqrt(4 * kappa**2 + n**2)
        b = n / (2 * kappa + root)  # (root − 2κ)/n without cancellation
        x0 = (1 - b) / (1 + b)
        c = kappa * x0 + n * torch.log1p(-(x0**2))
        beta = torch.distributions.Beta(n / 2, n / 2)
        accepted = torch.zeros_like(kappa)
        left = torch.arange(len(kappa), device=kappa.device)
        while len(left):
            e = beta.sample((len(left),)).to(kappa)
            w = (1 - (1 + b[left]) * e) / (1 - (1 - b[left]) * e)
            log_ratio = kappa[left] * w + n * torch.log1p(-x0[left] * w) - c[left]
            taken = log_ratio >= torch.rand_like(w).log()
            accepted[left[taken]] = e[taken]
            left = left[~taken]
        # Again, with the gradient of the map from the proposal.
        b = n / (2 * self.kappa + torch.sqrt(4 * self.kappa**2 + n**2))
        return (1 - (1 + b) * accepted) / (1 - (1 - b) * accepted)

    def divergence(self) -> Tensor:
        return _Divergence.apply(self.kappa, self.m)  # type: ignore[return-value]


def sample_and_divergence(loc: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """A sample and the KL at κ = 1/t, by the package where it is installed."""
    if not INSTALLED:
        law = VonMisesFisher(loc, 1 / t)
        return law.rsample(), law.divergence()
    from hyperspherical_vae import distributions as peer  # type: ignore[import-not-found]

    q = peer.VonMisesFisher(loc, 1 / t.unsqueeze(-1))
    p = peer.HypersphericalUniform(loc.shape[-1] - 1, device=loc.device)
    return q.rsample(), torch.distributions.kl_divergence(q, p)
