"""A heat kernel as the prior: models sample it in the dtype and on the device of their weights."""

import torch

from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import Sphere
from manifold_ae.models import DeltaVAE
from manifold_ae.nn import MLP


def test_a_model_samples_a_prior_that_holds_tensors(dtype, device, generator):
    M = Sphere(2)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    prior = HeatKernel(M, M.base_point(dtype=other, device=device), 0.01)
    vae = DeltaVAE(M, MLP(6, (8,)), MLP(3, (8,)), prior=prior, divergence="sampled")
    vae = vae.to(dtype=dtype, device=device)
    x = vae.sample(5, generator=generator)
    assert (x.shape, x.dtype) == ((5, 6), dtype)
    z = vae.prior.draw(1000, dtype=dtype, device=device, generator=generator)
    assert z.dtype == dtype
    assert M.dist(z, M.base_point(dtype=dtype, device=device)).square().mean() < 0.03
    assert torch.isfinite(vae.loss(torch.rand(4, 6, dtype=dtype, device=device))["loss"])
