"""Early stopping: training ends when rows that are held out of it are not explained better.

The rows are taken out of the training part, never of the test part: what is reported in the end is
of rows that neither weights nor the choice of the epoch have seen.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from manifold_ae.data import Dataset, Scaling, batch_of, rows_of, split_rows
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import VAE
from manifold_ae.models import DeltaVAE
from manifold_ae.run.conditions import Conditions
from manifold_ae.run.sequences import windows_of

__all__ = ["Patience", "patience", "validation"]

#: Posterior samples of validation rows by which an epoch is judged, in all, and rows of a batch.
VALIDATION_SAMPLES, LARGE = 1000, 4096


def validation(config: VAE, dataset: Dataset) -> tuple[Dataset, Tensor | None]:
    """The data set as it is trained on, and which of its training rows are held out to judge by.

    They are chosen as the test rows are (``config.split``): rows, or blocks of them, or trials.

    Returns:
        The data set without these rows, and their places in ``dataset.train``; the data set itself
        and None where ``config.patience`` is 0.

    Raises:
        ValueError: if the data are drawn afresh, or are too few to hold some out.
    """
    if config.patience == 0:
        return dataset, None
    if dataset.draw is not None:
        raise ValueError(
            f"patience = {config.patience}: {dataset.name} is drawn afresh at every step, and "
            "cannot be learned by heart; leave it out, or take translations = 'fixed'"
        )
    kept, held = split_rows(
        len(dataset.train),
        config.split,
        config.validation_fraction,
        config.split_seed,
        groups=dataset.train_given.get("groups"),
    )
    labels = dataset.train_labels
    training = dataclasses.replace(
        dataset,
        train=dataset.train[kept],
        train_rows=dataset.train_rows[kept],
        train_labels=None if labels is None else labels[kept],
        train_given=rows_of(dataset.train_given, kept),
    )
    return training, held


def patience(
    config: VAE,
    dataset: Dataset,
    held: Tensor | None,
    scaling: Scaling,
    conditions: Conditions,
    device: torch.device,
) -> "Patience | None":
    """What judges a model by the ELBO of the rows that are held out, if any are.

    It is the ELBO that is trained: with a prior along time, that of windows of these rows, in which
    those that were not held out are gaps.

    Arguments:
        held: their places in ``dataset.train``, as ``validation`` returns them.
    """
    if held is None:
        return None
    known = rows_of(dataset.train_given, held)
    own = dataclasses.replace(
        dataset,
        train=dataset.train[held],
        train_rows=dataset.train_rows[held],
        train_labels=None,
        test_labels=None,
        train_given=known,
    )
    given = {name: known[name] for name in SEEN if name in known}
    x = scaling.apply(own.train).to(device)
    batch = batch_of(x, conditions.apply(given, len(x)))
    parts = batch if isinstance(batch, dict) else {"x": batch}
    repeats = max(1, math.ceil(VALIDATION_SAMPLES / len(x)))

    def batches() -> Iterator[Mapping[str, Tensor]]:
        if not config.sequence:
            for rows in torch.arange(len(x), device=device).repeat(repeats).split(LARGE):
                yield rows_of(parts, rows)
            return
        windows = windows_of(config.replace(batch_size=LARGE, seed=config.split_seed), own, parts)
        for k in range(repeats):
            yield from windows.epoch(k)

    def elbo(model: DeltaVAE) -> float:
        # The same noise after every epoch: what differs is the model.
        generator = generator_for("validation", config.split_seed, device=device)
        total = 0.0
        for some in batches():
            total += model.elbo(**some, generator=generator)["elbo"].sum().item()
        return total / (repeats * len(x))

    return Patience(elbo, config.patience, start=math.ceil(config.kl_warmup * config.epochs))


class Patience:
    """When to stop, and the best weights so far; for ``training.fit``.

    Of several models trained at once (``replicas.Replicas``) each has its own best, and is frozen
    there once its own patience is at an end, as if it had been trained alone.

    Arguments:
        score: of a model, by which it is judged; more is better.
        epochs: how many without a better score end it.
        start: epochs before which nothing ends, while the weight of the KL term rises.
        name: the column of metrics with the score.
    """

    def __init__(
        self,
        score: Callable[[Any], float],
        epochs: int,
        *,
        start: int = 0,
        name: str = "validation_elbo",
    ) -> None:
        self.score, self.epochs, self.start, self.name = score, epochs, start, name
        self.best: list[float] = []
        self.best_epoch: list[int] = []
        self.ended: list[bool] = []
        self.weights: dict[str, Tensor] | None = None

    @property
    def done(self) -> bool:
        """Whether the patience with every model is at an end."""
        return bool(self.ended) and all(self.ended)

    @torch.no_grad()
    def look(
        self, model: nn.Module, epoch: int, lost: Mapping[int, str], fabric: Fabric
    ) -> list[dict[str, float]]:
        """Judge a model after an epoch; the columns of metrics of each of its members."""
        count = getattr(model, "members", None)
        if not self.best:
            self.best = [-math.inf] * (count or 1)
            self.best_epoch, self.ended = [0] * len(self.best), [False] * len(self.best)
        members: list[Any] = [model] if count is None else [model.model(k) for k in range(count)]  # type: ignore[operator]
        scores = [
            -math.inf if k in lost else self._judge(member) for k, member in enumerate(members)
        ]
        # Equal on every process but for rounding: one decides.
        scores = fabric.broadcast(scores)
        better = [
            not ended and score > best
            for score, best, ended in zip(scores, self.best, self.ended, strict=True)
        ]
        self._keep(model, better, several=count is not None)
        for k, score in enumerate(scores):
            if better[k]:
                self.best[k], self.best_epoch[k] = score, epoch
            waited = epoch - max(self.best_epoch[k], self.start)
            self.ended[k] = self.ended[k] or k in lost or waited >= self.epochs
        return [{self.name: score} for score in scores]

    def _judge(self, member: Any) -> float:
        was = member.training
        member.eval()
        try:
            return float(self.score(member))
        finally:
            member.train(was)

    def _keep(self, model: nn.Module, better: list[bool], *, several: bool) -> None:
        if self.weights is None:
            self.weights = copy.deepcopy(model.state_dict())
            return
        for name, value in model.state_dict().items():
            kept = self.weights[name]
            if not several:
                if better[0]:
                    kept.copy_(value)
                continue
            for k, chosen in enumerate(better):
                if chosen:
                    kept[k] = value[k]

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        """Give a model its best weights, at the end of training."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            self.weights = None
        self.ended = [True] * len(self.ended)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, to go on from."""
        return {
            "best": list(self.best),
            "best_epoch": list(self.best_epoch),
            "ended": list(self.ended),
            "weights": None if self.weights is None else dict(self.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` kept."""
        self.best, self.best_epoch = list(state["best"]), list(state["best_epoch"])
        self.ended = list(state["ended"])
        weights = state["weights"]
        self.weights = None if weights is None else copy.deepcopy(dict(weights))
