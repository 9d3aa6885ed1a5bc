"""What is measured of a trained homomorphism autoencoder, a batch at a time."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manifold_ae import groups, metrics
from manifold_ae.data import Traces, worlds
from manifold_ae.data.seeding import generator_for, mix
from manifold_ae.experiments import HAE
from manifold_ae.groups import Group, LieGroup
from manifold_ae.models import HomomorphismAutoencoder, transitions
from manifold_ae.run.representations import is_orthogonal
from manifold_ae.run.traces import TraceData, held_out
from manifold_ae.run.unstructured import fit_unstructured

__all__ = ["Evaluation"]

#: Latents of such a deviation, or less, have collapsed: it is what float32 leaves of equal ones.
COLLAPSED = 1e-6
#: Values of observations that are looked at at a time; networks hold some tens of times as many.
MAX_ELEMENTS = 2**22
#: Sizes of ρ up to which its blocks and its alignment are looked for, whose cost grows as size⁶
#: (seconds at 25), and matrices are made at all.
MAX_SIZE = 32
#: Numbers that probes of ρ are moved in at a time.
MAX_PROBED = 2**24


class Evaluation:
    """Measures of a model on the test traces and on long ones; see ``metrics``.

    Arguments:
        source: what the model was trained and is tested on.
        long: traces for rollouts.
        device: where the model is.
        max_elements: values of observations that are held on the device at a time, at least one
            trace.
    """

    def __init__(
        self,
        model: HomomorphismAutoencoder,
        config: HAE,
        source: TraceData,
        long: Traces,
        device: torch.device,
        *,
        max_elements: int = MAX_ELEMENTS,
    ) -> None:
        self.model, self.config, self.source, self.long = model.eval(), config, source, long
        self.device = device
        self.rows = max(1, max_elements // math.prod(source.shape))

    @torch.no_grad()
    def measure(self) -> dict[str, Any]:
        """Everything, the same every time.

        None stands for what is undefined: an error relative to the spread of latents that have
        none, or over observations of which there are none in the test part. ``left_out`` says what
        was not measured: of a ρ of more than ``MAX_SIZE`` dimensions, and of a world without
        circles for D_LSBD.
        """
        found: dict[str, Any] = self.losses()
        rollout = metrics.evaluate_rollout(
            self.model,
            self.long.observations.to(self.device),
            self.long.actions.to(self.device),
            horizons=sorted({*metrics.HORIZONS, self.long.steps}),
            batch_size=25,
        )
        found["rollout"] = {**rollout.as_dict(), "unstructured": self.unstructured(rollout)}
        first, last = rollout.prediction[0], rollout.prediction[-1]
        found["rollout_growth"] = last / first if first > 0 else None
        if isinstance(self.model.transition, transitions.ByRepresentation):
            found |= self.representation(self.model.transition)
        measured = self.disentanglement()
        missed = [some["left_out"] for some in (found, measured) if "left_out" in some]
        found |= measured | ({"left_out": "; ".join(missed)} if missed else {})
        if self.config.hold_out != "none":
            found |= self.unseen()
        return found

    # ---- in batches -------------------------------------------------------------------------

    def _batches(self, traces: Traces) -> Iterator[tuple[Tensor, Tensor]]:
        """Observations and actions of a few traces at a time, on the device."""
        count = max(1, self.rows // (traces.steps + 1))
        parts = zip(traces.observations.split(count), traces.actions.split(count), strict=True)
        return ((o.to(self.device), actions.to(self.device)) for o, actions in parts)

    def _over(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A network on all rows of x ``(n, *)``, a few at a time."""
        return torch.cat([network(part.to(self.device)) for part in x.split(self.rows)])

    def encode(self, observations: Tensor) -> Tensor:
        """Latents ``(n, size)`` of observations ``(n, *shape)``."""
        return self._over(self.model.encode, observations)

    def encode_traces(self, traces: Traces) -> Tensor:
        """Latents ``(n, steps + 1, size)`` of all observations of traces."""
        z = self.encode(traces.observations.flatten(0, 1))
        return z.unflatten(0, (len(traces), traces.steps + 1))

    # ---- what is measured -------------------------------------------------------------------

    def losses(self) -> dict[str, Any]:
        """The terms of the loss, averaged over the test traces."""
        test, sums = self.source.test, dict[str, float]()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(mix("evaluate", self.config.seed))
            for o, actions in self._batches(test):
                for name, value in self.model.loss(o, actions).items():
                    sums[name] = sums.get(name, 0.0) + value.item() * len(o) / len(test)
        return {name: value for name, value in sums.items() if name != "loss"}

    def representation(self, moves: transitions.ByRepresentation) -> dict[str, Any]:
        """What ρ alone tells, and how well the encoder follows it."""
        rho, group = moves.representation, moves.group
        test, long = self.source.test, self.long
        found: dict[str, Any] = {}
        generator = generator_for("defects", self.config.seed, device=self.device)
        # Without a Haar law, over the actions that occur, and their products.
        occurring = isinstance(group, LieGroup) and not group.is_compact and long.steps > 1
        if occurring:
            defects = self._action_defects(rho, long.actions)
            found["homomorphism_error_of_moves"] = defects.homomorphism_of_moves
            composed = defects.composition
            found["composition_error"] = composed if math.isfinite(composed) else None
        else:
            defects = metrics.homomorphism_defects(rho, generator=generator, device=self.device)
        found["homomorphism_error"] = defects.homomorphism
        found["inverse_error"] = defects.inverse
        found["identity_error"] = defects.identity
        z = self.encode_traces(test)
        spread = z[:, :-1].flatten(0, 1).double().std(0).amax().item()
        found["equivariance_error"] = None
        if spread > COLLAPSED:
            start, actions = z[:, :-1].flatten(0, 1), test.actions.to(self.device).flatten(0, 1)
            found["equivariance_error"] = metrics.transition_error(
                start, z[:, 1:].flatten(0, 1), moves.step(start, actions)
            )
        if rho.size > MAX_SIZE:
            found["left_out"] = (
                f"blocks and alignment, whose cost grows as size⁶: {rho.size} is over {MAX_SIZE}"
            )
            return found
        actions = groups.defects.random_actions(
            group, 500, generator=generator, dtype=torch.float32, device=self.device
        )
        if occurring:
            actions = test.actions.flatten(0, 1)[:500].to(self.device)
        matrices = rho(actions)
        orthogonal = is_orthogonal(self.config, group)
        linear = hasattr(rho, "generators") and getattr(rho, "phi", "") == "linear"
        telling = rho.generators() if linear else matrices
        blocks = metrics.find_blocks(telling, orthogonal=orthogonal)
        found["blocks"] = list(blocks.sizes)
        found["off_block_energy"] = blocks.off_block
        world = self.source.world
        truth = None if world is None else self._truth(world, rho.size)
        if truth is not None:
            # Small actions tell little apart: what is nearly aligned has to be nearer.
            tolerance = 0.01 if occurring else 0.1
            aligned = metrics.align_matrices(matrices, truth(actions), tolerance=tolerance)
            found["alignment_residual"] = aligned.residual
            # Infinite where every alignment is singular, and JSON has no infinity.
            condition = aligned.condition
            found["alignment_condition"] = condition if math.isfinite(condition) else None
            found["character_gap"] = aligned.character_gap
            if occurring and truth.size == rho.size:
                of_moves = metrics.residual_of_moves(aligned, truth(actions))
                found["alignment_residual_of_moves"] = of_moves
        return found

    def _action_defects(self, rho: Any, actions: Tensor) -> metrics.ActionDefects:
        """Defects over the actions of traces; of a large ρ, by what it does to vectors."""
        if rho.size <= MAX_SIZE or not hasattr(rho, "act"):
            return metrics.action_defects(rho, actions.to(self.device))
        generator, probes = generator_for("probes", self.config.seed), 16
        few = max(1, MAX_PROBED // (actions.shape[1] * probes * rho.size))
        return metrics.probed_defects(
            rho, actions[:few].to(self.device), probes=probes, generator=generator
        )

    def unstructured(self, rollout: metrics.RolloutErrors) -> tuple[float | None, ...]:
        """The error of a network on the same latents, where the model's own dynamics is none."""
        model, train, long = self.model, self.source.train, self.long
        network = fit_unstructured(
            model, self.encode_traces(train), train.actions.to(self.device), self.config.seed
        )
        o, steps = long.observations, max(rollout.horizons)
        path = network.unroll(self.encode(o[:, 0]), long.actions[:, :steps].to(self.device))
        found = []
        for h in rollout.horizons:
            drawn = self._over(model.decode, path[:, h])
            error = (drawn - o[:, h].to(self.device)).square().mean().item()
            # Nothing keeps such a path where latents are: far enough ahead it may overflow.
            found.append(error if math.isfinite(error) else None)
        return tuple(found)

    def unseen(self) -> dict[str, float | None]:
        """Errors on what training has seen the like of, and ratios to them of what it has not.

        ``held_out_ratio`` is of predictions of unseen observations; ``held_out_latent_ratio`` of
        their latents, which asks nothing of the decoder; ``held_out_start_ratio`` of predictions of
        seen observations from unseen ones, which asks it of the encoder alone.
        """
        world, test = self.source.world, self.source.test
        assert world is not None
        errors, gaps = [], []
        for o, actions in self._batches(test):
            z = self.model.encode(o)
            path = self.model.transition.unroll(z[:, 0], actions)[:, 1:]
            errors.append((self.model.decode(path) - o[:, 1:]).square().flatten(2).mean(2).cpu())
            gaps.append((z[:, 1:] - path).square().sum(2).cpu())
        error, gap = torch.cat(errors), torch.cat(gaps)
        unseen = held_out(self.config, world, test)
        start, target = unseen[:, :1], unseen[:, 1:]
        seen = ~start & ~target
        base = _mean(error[seen])
        found = {"seen_error": base, "held_out_error": _mean(error[~start & target])}
        found["held_out_ratio"] = _ratio(found["held_out_error"], base)
        if not isinstance(self.model.transition, transitions.Still):
            found["held_out_latent_ratio"] = _ratio(_mean(gap[~start & target]), _mean(gap[seen]))
        if start.any():
            found["held_out_start_ratio"] = _ratio(_mean(error[start & ~target]), base)
        return found

    def disentanglement(self) -> dict[str, Any]:
        """D_LSBD over a grid, where the group is a torus of up to three circles, or discrete."""
        world = self.source.world
        if world is None or not world.is_group_action:
            return {}
        states = _grid(world.group)
        if states is None:
            return {"left_out": f"D_LSBD, which is of one to three circles, not {world.group!r}"}
        shape = states.shape[: states.dim() - len(world.group.element_shape)]
        z = self.encode(world.render(states).flatten(0, len(shape) - 1)).cpu()
        if not (z - z[:1]).any():  # a collapsed encoder
            return {"d_lsbd": None, "d_lsbd_mean": None}
        weight = min(10, (min(shape) - 1) // 2)
        result = metrics.d_lsbd(z.unflatten(0, shape), max_weight=weight)
        return {"d_lsbd": result.value, "d_lsbd_mean": result.mean}

    def _truth(self, world: worlds.World, size: int) -> Any:
        """What actions move in the world's representation, as often as it fits into another."""
        if world.truth is None:
            return None
        parts = getattr(world.truth, "parts", (world.truth,))
        moved = groups.Sum(*(part for part in parts if not isinstance(part, groups.Trivial)))
        copies = (size - self.config.free) // moved.size
        return groups.Sum(*[moved] * copies) if copies else None


def _grid(group: Group) -> Tensor | None:
    """Elements over all circles of a torus, or of a product of cyclic groups: an axis for each."""
    if isinstance(group, groups.Torus) and group.n <= 3:
        count = {1: 64, 2: 24, 3: 21}[group.n]
        angles = torch.arange(count) * (2 * math.pi / count)
        return group.exp(torch.stack(torch.meshgrid(*[angles] * group.n, indexing="ij"), -1))
    factors = getattr(group, "factors", (group,))
    orders = [G.order for G in factors if isinstance(G, groups.Cyclic) and G.order > 2]
    if len(orders) == len(factors) <= 3:
        return torch.arange(math.prod(orders)).view(orders)
    return None


def _mean(x: Tensor) -> float | None:
    return x.mean().item() if x.numel() else None


def _ratio(error: float | None, base: float | None) -> float | None:
    return error / base if error is not None and base else None
