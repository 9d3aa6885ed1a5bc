"""The learning rate and the weights of the loss's terms, by the progress of training."""

import math
from dataclasses import dataclass

__all__ = ["Schedule"]

#: Courses of the learning rate.
SHAPES = ("constant", "cosine", "one-cycle")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate and the weight of the KL term depend on progress.

    Arguments:
        lr: learning rate, the peak of it for ``"one-cycle"``.
        shape: ``"constant"``; ``"cosine"``, constant for the first half and a cosine down; or
            ``"one-cycle"``, a cosine up over the first 30 % and a cosine down.
        kl_warmup: the part of training over which the weight of the KL term rises linearly from 0
            to 1; None for models that have no such term.
        fade: the part of training after which ``fading_weight``, of penalties that are to vanish,
            is 0; it falls linearly from 1. None for models that have none.
    """

    lr: float = 1e-3
    shape: str = "constant"
    kl_warmup: float | None = 0.0
    fade: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape = {self.shape!r}: expected one of {', '.join(SHAPES)}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr = {self.lr!r}: expected a positive number")
        if self.kl_warmup is not None and not 0 <= self.kl_warmup <= 1:
            raise ValueError(f"kl_warmup = {self.kl_warmup!r}: expected a part of training, 0 to 1")
        if self.fade is not None and not 0 < self.fade <= 1:
            raise ValueError(f"fade = {self.fade!r}: expected a part of training, up to 1, or None")

    def learning_rate(self, progress: float) -> float:
        """Learning rate when a fraction ``progress`` of all steps is done."""
        if self.shape == "constant":
            return self.lr
        peak = 0.5 if self.shape == "cosine" else 0.3
        if progress >= peak:
            fall = (progress - peak) / (1 - peak)
            return self.lr * (1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * fall)) / 2)
        if self.shape == "cosine":
            return self.lr
        return self.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / peak)) / 2)

    def weights(self, progress: float) -> dict[str, float]:
        """Weights passed to the model when a fraction ``progress`` of all steps is done."""
        found = {}
        if self.kl_warmup is not None:
            found["kl_weight"] = min(1.0, progress / self.kl_warmup) if self.kl_warmup > 0 else 1.0
        if self.fade is not None:
            found["fading_weight"] = max(0.0, 1.0 - progress / self.fade)
        return found
