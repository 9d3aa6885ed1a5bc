"""What a network makes of latents without any structure: a column of a run's rollout errors."""

import torch
from torch import Tensor

from manifold_ae.data.seeding import mix
from manifold_ae.models import HomomorphismAutoencoder
from manifold_ae.models.transitions import Unstructured
from manifold_ae.training import Schedule

__all__ = ["fit_unstructured"]

#: Single steps of traces at a time, passes over all of them, and the most steps of Adam.
BATCH, EPOCHS, MOST = 512, 30, 1500
LEARNING_RATE = 2e-3


def fit_unstructured(
    model: HomomorphismAutoencoder, z: Tensor, actions: Tensor, seed: int
) -> Unstructured:
    r"""A network f that minimises |z' − z − f(z, g)|² over all single steps of traces.

    The model's latents stay as they are, so that what differs is the dynamics alone. A function of
    its arguments: weights and order come from the seed.

    Arguments:
        z: the model's latents of the observations of traces, ``(n, T + 1, size)``.
        actions: ``(n, T, group.dim)``, or ``(n, T)`` of integers for a finite group.
    """
    before, after, done = z[:, :-1].flatten(0, 1), z[:, 1:].flatten(0, 1), actions.flatten(0, 1)
    steps = min(MOST, EPOCHS * -(-len(done) // BATCH))
    schedule = Schedule(LEARNING_RATE, "cosine")
    generator = torch.Generator().manual_seed(mix("unstructured order", seed))
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("unstructured", seed))
        network = Unstructured(model.group, z.shape[-1]).to(z)
        optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        for step in range(steps):
            for options in optimiser.param_groups:
                options["lr"] = schedule.learning_rate(step / steps)
            rows = torch.randint(len(done), (BATCH,), generator=generator).to(z.device)
            gap = network.step(before[rows], done[rows]) - after[rows]
            loss = gap.square().sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()
