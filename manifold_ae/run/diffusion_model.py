"""What a configuration of a diffusion model means: its data, its schedule, its untrained model."""

import torch

from manifold_ae import data
from manifold_ae import diffusion as process
from manifold_ae.data import Dataset
from manifold_ae.data.seeding import mix
from manifold_ae.experiments import Diffusion
from manifold_ae.models import DiffusionModel
from manifold_ae.nn import MLPDenoiser

__all__ = ["build_model", "load_data", "make_schedule", "resolve"]

#: Nats a coordinate between the end of a schedule and the noise that samples start from, beyond
#: which they would be of another law: the scaled-linear schedule's 2.3e-3 pass, as they do in use.
NEAR_THE_PRIOR = 1e-2


def load_data(config: Diffusion) -> Dataset:
    """The data that a configuration names."""
    return data.load(
        config.data,
        data_dir=config.data_dir,
        split=config.split,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )


def resolve(config: Diffusion, dataset: Dataset) -> Diffusion:
    """The configuration with ``scaling = "auto"`` replaced."""
    if config.scaling != "auto":
        return config
    if dataset.default_scaling == "none":
        return config.replace(scaling="none")
    return config.replace(scaling="overall" if len(dataset.shape) > 1 else "standard")


def make_schedule(config: Diffusion) -> process.Schedule:
    """The noise schedule that a configuration names, of its number of steps.

    Raises:
        ValueError: if it ends too far from the noise that samples start from.
    """
    kinds = {
        "linear": process.Schedule.linear,
        "scaled-linear": process.Schedule.scaled_linear,
        "cosine": process.Schedule.cosine,
    }
    made = kinds[config.schedule](config.steps)
    if made.prior_divergence > NEAR_THE_PRIOR:
        raise ValueError(
            f"schedule = {config.schedule!r} of steps = {config.steps} ends "
            f"{made.prior_divergence:.2g} nats a coordinate from the noise that samples start "
            f"from: expected at most {NEAR_THE_PRIOR:g}; use --schedule cosine, or --steps 1000"
        )
    return made


def build_model(config: Diffusion, event_shape: tuple[int, ...]) -> DiffusionModel:
    """An untrained model; its initial weights are a function of ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", config.seed))
        denoiser = MLPDenoiser(event_shape, config.width, config.depth, config.embedding)
        return DiffusionModel(make_schedule(config), denoiser, event_shape, config.ema)
