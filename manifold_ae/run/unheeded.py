"""Values of a configuration that nothing would look at."""

from manifold_ae import data
from manifold_ae.data import Dataset
from manifold_ae.experiments import VAE

__all__ = ["check_heeded"]


def check_heeded(config: VAE, dataset: Dataset) -> None:
    """Refuse a value that was chosen, as far as that can be told, and that a run would not look at.

    Arguments:
        config: resolved.
        dataset: what is trained on.

    Raises:
        ValueError: for the first such value; the message says what would make it count.
    """
    reasons = {
        "data_dir": (
            config.data_dir is None or data.takes_folder(config.data),
            f"data = {config.data!r} reads nothing there; take data = 'mnist'",
        ),
        "steps_per_epoch": (
            dataset.draw is not None,
            f"an epoch is once through the {len(dataset.train)} rows; take epochs and batch_size",
        ),
        "restart_epochs": (config.restarts > 1, "there are no trials; take restarts = 8"),
        "walk_steps": (
            config.posterior == "random-walk",
            f"posterior = {config.posterior!r} takes no walk; take posterior = 'random-walk'",
        ),
        "validation_fraction": (
            config.patience > 0,
            "no rows are held out of training; take patience = 20",
        ),
    }
    for name, (heeded, why) in reasons.items():
        value = getattr(config, name)
        if not heeded and value != getattr(VAE, name):
            raise ValueError(f"{name} = {value!r}: {why}, or leave it out")
