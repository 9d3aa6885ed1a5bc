"""What a candidate has to beat: how likely held-out rows are without a latent.

Without covariates every feature has one law, fitted by maximum likelihood. What covariates explain
is no structure either: with them, a decoder like the candidates' own predicts the features from
covariates alone, and is trained as long. It may have learned noise by heart; so the better of the
two, on the held-out rows themselves, is the floor, to the disadvantage of the candidates.
"""

import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Dataset, Scaling
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import mix
from manifold_ae.experiments import VAE
from manifold_ae.models import CovariatesOnly, LatentFree, begin_at, encoder_shape, likelihoods
from manifold_ae.run.conditions import Conditions
from manifold_ae.run.networks import build_networks
from manifold_ae.training import Schedule, fit, make_fabric

__all__ = ["floor"]


def floor(config: VAE, dataset: Dataset, scaling: Scaling) -> Tensor:
    """Log-likelihood of the held-out rows without a latent, ``(n,)``, in float64 on the CPU.

    Arguments:
        config: of a candidate, resolved: its decoder and its training.
    """
    masks = config.missing == "mask"
    likelihood = likelihoods.named(config.likelihood, dataset.shape, masks=masks)
    train, test = (scaling.apply(x) for x in (dataset.train, dataset.test))
    before, after = (given.get("exposure") for given in (dataset.train_given, dataset.test_given))
    free = LatentFree(likelihood).fit(train, before)
    alike = free.log_prob(test, after)
    if not dataset.covariates:
        return alike
    predicted = _by_covariates(config, dataset, train, test)
    return predicted if predicted.mean() > alike.mean() else alike


def _by_covariates(config: VAE, dataset: Dataset, train: Tensor, test: Tensor) -> Tensor:
    conditions = Conditions.fit(dataset.train_given)
    fabric = make_fabric(config.device, config.precision)

    def batch(x: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {name: given[name] for name in SEEN if name in given}
        return data.batch_of(x.to(fabric.device), conditions.apply(own, len(x)))

    rows = batch(train, dict(dataset.train_given))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("floor", config.seed))
        likelihood = likelihoods.named(
            config.likelihood, dataset.shape, masks=config.missing == "mask"
        )
        seen = encoder_shape(likelihood, conditions.count, conditions.exposure is not None)
        _, decoder = build_networks(config, dataset.shape, conditions.count, seen=seen)
        model = CovariatesOnly(decoder, likelihood, conditions.count)
    # In the units of the model, as the rates of a decoder are.
    begin_at(model, LatentFree(likelihood).fit(rows["x"].cpu(), _exposure(rows)))
    fit(
        model,
        data.Shuffled(rows, config.batch_size, config.seed),
        epochs=config.epochs,
        schedule=Schedule(config.lr, config.lr_schedule, kl_warmup=None),
        fabric=fabric,
        seed=config.seed,
        progress=False,
    )
    model.eval()
    with torch.no_grad():
        found = model.log_prob(**batch(test, dict(dataset.test_given)))
    return found.double().cpu()


def _exposure(rows: dict[str, Tensor]) -> Tensor | None:
    exposure = rows.get("exposure")
    return None if exposure is None else exposure.cpu()
