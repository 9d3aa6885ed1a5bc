"""Diffusion processes, whose steps are elements of a matrix group that acts on data.

schedule = Schedule.linear(1000)
denoiser = exact.mixture(means, covariances, schedule)     # or a network: denoiser(x, t)
chain = samplers.ddim_chain(denoiser, schedule, x, schedule.times(50))
chain.element                                              # what 50 steps compose to: one element
"""

from manifold_ae.diffusion import chains, exact, samplers
from manifold_ae.diffusion.chains import Chain, compose, condition, cumulative, invert, replay
from manifold_ae.diffusion.collapse import gaussian_chain, gaussian_step
from manifold_ae.diffusion.first_order import ddim_first_order
from manifold_ae.diffusion.laws import GaussianAffineLaw
from manifold_ae.diffusion.published import published_denoising_matrix, published_posterior
from manifold_ae.diffusion.schedule import Schedule
from manifold_ae.diffusion.steps import Denoiser, ddim_step, ddpm_step, ve_step, vp_step
from manifold_ae.diffusion.traces import DiffusionTrace, diffusion_trace

__all__ = [
    "Chain",
    "Denoiser",
    "DiffusionTrace",
    "GaussianAffineLaw",
    "Schedule",
    "chains",
    "compose",
    "condition",
    "cumulative",
    "ddim_first_order",
    "ddim_step",
    "ddpm_step",
    "diffusion_trace",
    "exact",
    "gaussian_chain",
    "gaussian_step",
    "invert",
    "published_denoising_matrix",
    "published_posterior",
    "replay",
    "samplers",
    "ve_step",
    "vp_step",
]
