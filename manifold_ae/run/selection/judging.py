"""Candidates for a latent manifold: each trained in the same way, and judged on held-out rows."""

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae import metrics
from manifold_ae.data import Dataset, Scaling
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.distributions import kl_by_factor
from manifold_ae.experiments import Select
from manifold_ae.manifolds import Manifold
from manifold_ae.run import advice, delta_vae
from manifold_ae.run.delta_vae import VAERun
from manifold_ae.run.files import save_arrays, write_json
from manifold_ae.run.fingerprint import kept_of, require_same
from manifold_ae.run.selection.floor import floor

__all__ = ["Judge", "Judged", "folder_of", "shuffled"]

#: Latents by which coverage and homology are judged.
ENCODED = 1000
#: Rows of a batch of importance sampling.
BATCH = 500
#: Residual variance over that of data drawn from the model, above which counts are overdispersed.
OVERDISPERSED = 1.2
#: Excess kurtosis of residuals above which tails are heavy.
HEAVY = 2.0


def folder_of(name: str) -> str:
    """What a candidate's folder is called."""
    return name.replace(":", "").replace("*", "x")


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The data with every feature permuted on its own, within either part.

    Missing values stay where they are: rows keep as much as they had.
    """

    def permuted(part: str) -> Tensor:
        x: Tensor = getattr(dataset, part)
        flat = x.flatten(1)
        keys = torch.rand(flat.shape, generator=generator_for("shuffled", seed, part))
        missing = flat.isnan()
        # What there is comes first, in a random order; the k-th row that has some takes the k-th.
        order = keys.masked_fill(missing, 2.0).argsort(0)
        rank = ((~missing).long().cumsum(0) - 1).clamp_min(0)
        return torch.where(missing, flat, flat.gather(0, order.gather(0, rank))).view(x.shape)

    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}, shuffled",
        train=permuted("train"),
        test=permuted("test"),
        draw=None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What a trained candidate reached.

    Attributes:
        log_likelihood: of the held-out rows, ``(n,)``.
        record: as ``judged.json`` holds it.
    """

    log_likelihood: Tensor
    record: dict[str, Any]

    @classmethod
    def read(
        cls, folder: Path, rows: Tensor, data: Mapping[str, Any] | None = None
    ) -> "Judged | None":
        """What was judged before, if it is all there.

        Arguments:
            data: the fingerprint of the data.

        Raises:
            ValueError: if other rows than these were held out then, or the data were others.
        """
        if not (folder / "judged.json").exists():
            return None
        record = json.loads((folder / "judged.json").read_text(encoding="utf-8"))
        with np.load(folder / "judged.npz") as arrays:
            if not np.array_equal(arrays["rows"], rows.numpy()):
                raise ValueError(
                    f"{folder} was judged on other rows: the data have changed since; take another "
                    "folder"
                )
            require_same(folder, record, data)
            return cls(torch.from_numpy(arrays["log_likelihood"]), record)

    def write(self, folder: Path, rows: Tensor) -> None:
        """Arrays first: where there is a record, there is all."""
        arrays = {"log_likelihood": self.log_likelihood.numpy(), "rows": rows.numpy()}
        save_arrays(folder / "judged.npz", arrays)
        write_json(folder / "judged.json", self.record)


class Judge:
    """Trains candidates on the same data, and judges them.

    Arguments:
        config: of the selection.
        folder: in which every candidate has one; nothing is written without.
        restarts: trials of a candidate, in place of the configuration's.
    """

    def __init__(
        self,
        config: Select,
        dataset: Dataset,
        folder: Path | None,
        *,
        restarts: int | None = None,
    ) -> None:
        self.config, self.dataset, self.folder = config, dataset, folder
        self.data = kept_of(dataset)
        steps = math.ceil(len(dataset.train) / config.batch_size)
        # Of data that are drawn afresh, as many batches make an epoch as of those in hand.
        changes = {"steps_per_epoch": steps} | ({} if restarts is None else {"restarts": restarts})
        # Likelihood and scaling are the same for all.
        some = config.candidate("circle", batches=steps, **changes)
        self.settings = delta_vae.resolve(some, dataset).replace(posterior="auto")
        self.scaling = Scaling.fit(
            self.settings.scaling,
            dataset.train,
            dataset.value_range,
            missing=self.settings.missing,
        )

    def __call__(self, name: str, M: Manifold) -> Judged:
        """Train and judge a candidate, or read what it reached before."""
        own = None if self.folder is None else self.folder / folder_of(name)
        done = None if own is None else Judged.read(own, self.dataset.test_rows, self.data)
        if done is not None:
            return done
        config = self.settings.replace(manifold=M.spec, divergence="auto")
        begun = own is not None and (own / "config.toml").exists()
        with _quietly():
            run = delta_vae.train(config, own, resume=begun, dataset=self.dataset, strict=False)
        assert isinstance(run, VAERun)
        judged = self._judged(run)
        if own is not None:
            judged.write(own, self.dataset.test_rows)
        return judged

    def floor(self) -> Tensor:
        """Log-likelihood of the held-out rows without a latent, of shape ``(n,)``."""
        return floor(self.settings, self.dataset, self.scaling)

    @torch.no_grad()
    def _judged(self, run: VAERun) -> Judged:
        model, M = run.model.eval(), run.model.manifold
        given = run.given(len(self.dataset.test), **_seen(self.dataset.test_given))
        rows = _batches({"x": run.scaled(self.dataset.test), **given})
        generator = generator_for("judge", self.config.seed, device=run.device)
        log_likelihood = torch.cat(
            [
                model.log_likelihood(
                    row["x"], self.config.num_samples, generator=generator, **_given(row)
                )
                for row in rows
            ]
        )
        if not torch.isfinite(log_likelihood).all():
            raise ValueError(
                f"{int((~torch.isfinite(log_likelihood)).sum())} held-out rows have no finite "
                f"log-likelihood on {M.spec}: training diverged, or they are unlike all others; "
                "try a smaller --set lr, or leave the candidate out"
            )
        laws: list[Any] = [model.posterior_law(row["x"], **_given(row)) for row in rows]
        kl = torch.cat([kl_by_factor(q, model.prior) for q in laws]).double().mean(0)
        z = torch.cat([q.loc for q in laws])[:ENCODED].cpu()
        reached = None
        if M.compact:
            chance = generator_for("coverage", self.config.seed)
            reached = metrics.coverage(M, z, points=ENCODED, generator=chance)
        record = {
            "log_likelihood": log_likelihood.double().mean().item(),
            "train_elbo": run.history[-1]["elbo"],
            "kl": dict(zip(_names(M), kl.tolist(), strict=True)),
            "coverage": None if reached is None else reached.fraction,
            "hole": None if reached is None else reached.hole / reached.uniform_hole,
            "betti": self._betti(M, z),
            "warnings": self._warnings(run, rows, laws),
            "seconds": sum(row["seconds"] for row in run.history),
            "data": self.data,
        }
        return Judged(log_likelihood.cpu(), record)

    def _betti(self, M: Manifold, z: Tensor) -> list[int | None] | None:
        """Betti numbers of latents over ℤ/2; None where they are not asked for, or no ripser."""
        if self.config.landmarks == 0:
            return None
        try:
            most: int | None = self.config.landmarks
            if M.compact:
                chance = generator_for("landmarks", self.config.seed)
                most = metrics.enough_landmarks(M, len(z), most, generator=chance)
            if most is None:  # for such a shape rows or landmarks are too few
                return [None for _ in range(1 + min(2, M.dim))]
            found = metrics.betti_of_latents(M, z.double(), landmarks=most)
        except ModuleNotFoundError:
            return None
        except ValueError:  # latents that do not differ have no scale
            return [None for _ in range(1 + min(2, M.dim))]
        return list(found.betti[2])

    def _warnings(
        self, run: VAERun, rows: Sequence[Mapping[str, Tensor]], laws: Sequence[Any]
    ) -> list[str]:
        """Sentences on what speaks against the likelihood."""
        model, likelihood = run.model, run.model.likelihood
        told = [say(run.config, self.dataset) for say in (advice.few_rows, advice.unlike_counts)]
        generator = generator_for("drawn again", self.config.seed, device=run.device)
        tails, here, there = [], [], []
        for q, row in zip(laws, rows, strict=True):
            x, given, exposure = row["x"], _given(row), row.get("exposure")
            output = model._output(q.loc, row.get("covariates"))
            tails.append(x - likelihood.mean(output, exposure))
            seen = likelihood.checks(output, x, exposure)
            if "dispersion" not in seen:
                continue
            # Of latents that are estimated, residuals are smaller than of those that are known:
            # what the model itself draws is the measure.
            again = likelihood.draw(output, exposure, generator=generator)
            law: Any = model.posterior_law(again, **given)
            output = model._output(law.loc, row.get("covariates"))
            here.append(seen["dispersion"])
            there.append(likelihood.checks(output, again, exposure)["dispersion"])
        if here:
            ratio = (torch.cat(here).mean() / torch.cat(there).mean()).item()
            told.append(_overdispersed(ratio, likelihood.name))
        elif likelihood.name.startswith("gaussian") and not told[1]:  # of counts, tails say nothing
            told.append(_heavy(metrics.excess_kurtosis(torch.cat(tails))))
        return [f"{line[0].upper()}{line[1:]}." for line in told if line]


def _overdispersed(ratio: float, name: str) -> str:
    if not ratio > OVERDISPERSED:
        return ""
    way = "choose --likelihood negative-binomial, unless " if name == "poisson" else "perhaps "
    return (
        f"counts vary {ratio:.2f} times as much about their means as those that the model draws: "
        f"{way}there is more behind them than the candidates hold"
    )


def _heavy(kurtosis: float) -> str:
    if not kurtosis > HEAVY:
        return ""
    return (
        f"residuals have heavier tails than a Gaussian (excess kurtosis {kurtosis:.1f}): choose "
        "--likelihood student-t"
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What is advised for every run is said once, of the best, at the end."""
    logger = logging.getLogger("manifold_ae")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _seen(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: given[name] for name in SEEN if name in given}


def _batches(rows: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    parts = zip(*(value.split(BATCH) for value in rows.values()), strict=True)
    return [dict(zip(rows, part, strict=True)) for part in parts]


def _given(row: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "x"}


def _names(M: Manifold) -> list[str]:
    """Names of the parts of ``kl_by_factor``, each once."""
    factors: Sequence[Manifold] = getattr(M, "factors", (M,))
    names: list[str] = []
    for k, factor in enumerate(factors):
        if factor.time_shape:
            names += [f"direction {j + 1}" for j in range(factor.time_shape[0])]
        elif factors.count(factor) > 1:
            names.append(f"{factor.spec} {1 + factors[:k].count(factor)}")
        else:
            names.append(factor.spec)
    return names
