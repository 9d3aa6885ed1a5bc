"""What is known of rows beside their values, in the units in which a model is given it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Scaling
from manifold_ae.data.given import SEEN

__all__ = ["Conditions"]


@dataclass(frozen=True)
class Conditions:
    """Covariates to mean 0 and standard deviation 1, exposures to a geometric mean of 1.

    Fitted to the training rows. A rate is then that of a row of typical exposure, and a row without
    conditions of its own, as of ``sample``, is one with the mean covariates and that exposure.

    Arguments:
        covariates: their scaling; None where there are none.
        exposure: the exposure that is called 1; None where there is none.
    """

    covariates: Scaling | None = None
    exposure: float | None = None

    @classmethod
    def fit(cls, given: Mapping[str, Tensor]) -> "Conditions":
        """Those that suit ``Dataset.train_given``."""
        covariates, exposure = given.get("covariates"), given.get("exposure")
        return cls(
            None if covariates is None else Scaling.fit("standard", covariates),
            None if exposure is None else exposure.double().log().mean().exp().item(),
        )

    @property
    def count(self) -> int:
        """How many covariates there are."""
        return 0 if self.covariates is None else self.covariates.shift.numel()

    def apply(
        self,
        given: Mapping[str, Any],
        rows: int,
        *,
        typical: bool = False,
        device: torch.device | None = None,
    ) -> dict[str, Any]:
        """What a model is given with so many rows, as arguments by name.

        Arguments:
            given: raw ``covariates`` (rows, c) and ``exposure`` (rows,); what is None, or no model
                sees, is left out.
            typical: rows of which one of the two is not given have the mean covariates, or the
                typical exposure.

        Raises:
            ValueError: if some of it is lacking that the model was trained with, or there is some
                that it was not, or values are not finite, an exposure not positive.
        """
        raw = {name: given[name] for name in SEEN if given.get(name) is not None}
        lacking = [name for name in SEEN if name not in raw and getattr(self, name) is not None]
        if lacking and not typical:
            shapes = {"covariates": f"(n, {self.count})", "exposure": "(n,)"}
            raise ValueError(
                f"this run was trained with {' and '.join(lacking)}: those of the rows are needed "
                f"too, {' and '.join(f'{name}= of shape {shapes[name]}' for name in lacking)}"
            )
        found: dict[str, Tensor] = {}
        for name, value in raw.items():
            if getattr(self, name) is None:
                raise ValueError(
                    f"{name} are given, and this run was trained without: leave it out"
                )
            value = torch.as_tensor(value).to(torch.float32)
            found[name] = value.unsqueeze(-1) if (name, value.dim()) == ("covariates", 1) else value
        data.check_given(found, rows)
        if self.covariates is not None and "covariates" in found:
            if found["covariates"].shape[1] != self.count:
                raise ValueError(
                    f"covariates of shape {tuple(found['covariates'].shape)}: expected "
                    f"({rows}, {self.count}), as the run was trained with"
                )
            found["covariates"] = self.covariates.apply(found["covariates"])
        if self.exposure is not None and "exposure" in found:
            found["exposure"] = found["exposure"] / self.exposure
        if "covariates" in lacking:  # without an exposure, a model takes that of 1
            found["covariates"] = torch.zeros(rows, self.count)
        return {name: value.to(device) for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; nothing where there are no conditions."""
        state: dict[str, Any] = {}
        if self.covariates is not None:
            state["covariates"] = self.covariates.state_dict()
        if self.exposure is not None:
            state["exposure"] = self.exposure
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Conditions":
        """The conditions that ``state_dict`` was taken from."""
        exposure = state.get("exposure")
        if exposure is not None and not (isinstance(exposure, float) and 0 < exposure < math.inf):
            raise ValueError(f"exposure = {exposure!r}: expected the positive unit of exposures")
        kept = state.get("covariates")
        return cls(None if kept is None else Scaling.from_state_dict(kept), exposure)
