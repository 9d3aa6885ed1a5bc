"""What was measured in an epoch; what is not finite is found here, and named."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

__all__ = ["NonFiniteLossError", "Record", "check_parameters"]


class NonFiniteLossError(RuntimeError):
    """A term of the loss became NaN or infinite; the last good checkpoint is untouched."""


def check_parameters(model: nn.Module, epoch: int, lost: dict[int, str]) -> None:
    """Refuse to go on, or to save, once a weight is not finite; the losses may have been."""
    count = getattr(model, "members", 1)
    names, values = zip(*model.named_parameters(), strict=True)
    finite = torch.stack([torch.isfinite(v.detach()).view(count, -1).all(1) for v in values]).cpu()
    for k in range(count):
        if k not in lost and not finite[:, k].all():
            lost[k] = (
                f"parameter {names[int(finite[:, k].int().argmin())]} is not finite after epoch "
                f"{epoch}, though every loss was: a gradient overflowed. Checkpoints saved before "
                "are good; try a smaller --lr"
            )
    _require_one(lost, count)


def _require_one(lost: dict[int, str], count: int) -> None:
    """Raise when no model is left, with the reason of the last."""
    if len(lost) == count:
        raise NonFiniteLossError(list(lost.values())[-1])


class Record:
    """Terms of one epoch, kept on the device: reading them back is what would slow it down."""

    def __init__(
        self, model: nn.Module, epoch: int, steps: int, lost: dict[int, str], fabric: Fabric
    ) -> None:
        self.model, self.epoch, self.steps, self.lost = model, epoch, steps, lost
        self.fabric = fabric
        #: Whether other processes have parts of it: then all look at once, when it is whole.
        self.shared = fabric.world_size > 1
        self.names: list[str] = []
        self.rows: list[Tensor] = []
        self.checked = 0
        self.eager = False

    def add(self, terms: Mapping[str, Tensor], batch: Any, weight: float) -> None:
        self.names = self.names or list(terms)
        row = torch.stack([terms[name].detach() for name in self.names])
        # On a CPU nothing waits for a value, so every step is looked at.
        self.eager = row.device.type == "cpu" and not self.shared
        self.rows.append(row if weight == 1.0 else row * weight)
        self.batch = batch

    def check(self) -> str:
        """Note what was not finite since the last check, and raise if no model is left.

        Returns a line for the bar.
        """
        table = torch.stack(self.rows[self.checked :]).cpu()
        by_model = table.view(*table.shape[:2], -1)
        for k, own in enumerate(by_model.unbind(-1)):
            bad = ~torch.isfinite(own)
            if k not in self.lost and bad.any():
                first = int(bad.any(1).nonzero()[0])
                which = (k,) if table.dim() == 3 else ()
                self.lost[k] = self._reason(self.checked + first + 1, own[first], bad[first], which)
        _require_one(self.lost, by_model.shape[-1])
        self.checked = len(self.rows)
        left = [k for k in range(by_model.shape[-1]) if k not in self.lost]
        values = dict(zip(self.names, by_model[-1][:, left].mean(1).tolist(), strict=True))
        shown = {name: values[name] for name in ("elbo", "kl", "mse") if name in values}
        line = " ".join(f"{name} {value:.4g}" for name, value in (shown or values).items())
        return f"epoch {self.epoch + 1} {line}"

    def _reason(self, step: int, row: Tensor, bad: Tensor, which: tuple[int, ...]) -> str:
        terms = [name for name, wrong in zip(self.names, bad, strict=True) if wrong]
        values = zip(self.names, row.tolist(), strict=True)
        statistics = getattr(self.model, "statistics", lambda *_: {})(self.batch, *which)
        return (
            f"{', '.join(terms)} not finite at step {step} of {self.steps} in epoch "
            f"{self.epoch + 1} ({', '.join(f'{name} = {value:.4g}' for name, value in values)}). "
            f"State of the model: "
            f"{', '.join(f'{k} = {v:.4g}' for k, v in statistics.items()) or 'not told'}. "
            "Checkpoints saved before are good; try a smaller --lr, or check the data's scaling"
        )

    def finish(self) -> dict[int, dict[str, float]]:
        """Means over the epoch for every model, once all of it was looked at."""
        if self.shared:
            mean: Any = self.fabric.all_reduce(torch.stack(self.rows), reduce_op="mean")
            self.rows = list(mean.unbind(0))
        if self.checked < len(self.rows):
            self.check()
        means = torch.stack(self.rows).double().mean(0).cpu()
        if means.dim() == 1:
            return {0: dict(zip(self.names, means.tolist(), strict=True))}
        return {
            k: {"replica": k, **dict(zip(self.names, own.tolist(), strict=True))}
            for k, own in enumerate(means.unbind(1))
        }
