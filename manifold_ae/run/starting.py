"""Where training of a ΔVAE begins, as its configuration says."""

from collections.abc import Callable, Mapping

from torch import Tensor

from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import VAE
from manifold_ae.models import DeltaVAE, LatentFree, begin_at, spread_locations

__all__ = ["starter"]

#: Training rows that a start from the data looks at, about.
STARTED = 2000
#: Nats an observation, to which the model without a latent is fitted that a decoder begins at.
ROUGHLY = 1e-2


def starter(
    config: VAE,
    build: Callable[[VAE], DeltaVAE],
    batch: Callable[[], Tensor | Mapping[str, Tensor]],
) -> Callable[[VAE], DeltaVAE]:
    """``build``, or with ``start = "spread"`` what begins from the data after it.

    Arguments:
        build: the untrained model of a configuration.
        batch: all training rows, scaled, as the model is called with them.
    """
    if config.start == "random":
        return build
    rows = batch()
    given = {"x": rows} if isinstance(rows, Tensor) else dict(rows)
    stride = max(1, len(given["x"]) // STARTED)
    given = {name: value[::stride].cpu() for name, value in given.items()}
    x = given.pop("x")
    exposure = given.get("exposure")
    floor = LatentFree(build(config).likelihood).fit(x, exposure, tolerance=ROUGHLY)

    def spread(config: VAE) -> DeltaVAE:
        model = build(config)
        generator = generator_for("spread", config.seed)
        spread_locations(model, lambda: model.posterior(x, **given), generator=generator)
        begin_at(model, floor)
        return model

    return spread
