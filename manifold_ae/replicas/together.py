"""K models of one architecture as one module."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten

from manifold_ae.data.seeding import mix
from manifold_ae.replicas.draws import Draw, Given, noted
from manifold_ae.replicas.stack import nth, replaced, stacked
from manifold_ae.training import Checkpoint

__all__ = ["Replicas"]

#: What errors of ``vmap`` say of a computation that it cannot map.
NOT_MAPPED = ("vmap: ", "Batching rule not implemented")


class _AfterStep(nn.Module):
    """``model.after_step`` as a call, which is all that ``functional_call`` makes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self) -> None:
        self.model.after_step()


class Replicas(nn.Module):
    """K models of one architecture as a module, for ``training.fit``.

    Arguments:
        models: the K models; their parameters are copied. What they have beside parameters and
            buffers is taken from the first, and is to be equal.
        seeds: of their random streams, as ``fit`` takes one for a single model.
        mapped: False computes one replica after another within a step, to compare with.

    Called with batches ``(K, b, *shape)``, as ``data.Together`` makes them, it returns the models'
    terms, ``(K,)`` each. Parameters and buffers are those of a model with K in front, under
    ``stack.``: a state dictionary of Replicas is the models' own, stacked.

    A model whose loss looks at values to decide what to compute, as on a ``Submanifold``, cannot be
    mapped over: its replicas are computed one after another within a step. ``separately`` says
    why, and is None where they are one computation.

    Raises:
        ValueError: if there is no model, the seeds are not as many, or parameters differ in shape.
        NotImplementedError: when called, if the model draws by other functions than ``rand``,
            ``randn``, ``rand_like``, ``randn_like``, ``randint`` and ``randperm`` (dropout does).

    Example:
        >>> from manifold_ae import manifolds, models, nn
        >>> M = manifolds.Sphere(2)
        >>> vaes = [models.DeltaVAE(M, nn.MLP(64, (16,)), nn.MLP(3, (16,))) for _ in range(5)]
        >>> Replicas(vaes, seeds=range(5))(torch.rand(5, 32, 64))["elbo"].shape
        torch.Size([5])
    """

    def __init__(
        self, models: Sequence[nn.Module], seeds: Sequence[int], *, mapped: bool = True
    ) -> None:
        super().__init__()
        if not models or len(seeds) != len(models):
            raise ValueError(
                f"{len(models)} model(s) and {len(seeds)} seed(s): expected at least one model, "
                "and a seed for each"
            )
        self.members, self.seeds = len(models), tuple(seeds)
        self.separately: str | None = None if mapped else "asked for"
        self.stack = stacked(models)
        self._noted: dict[Any, list[tuple[torch.device, Draw]]] = {}
        self._generators: dict[torch.device, list[torch.Generator]] = {}
        self.begin_epoch(0, 0)

    # ---- what the loop asks for ---------------------------------------------------------------

    def begin_epoch(self, epoch: int, rank: int) -> None:
        """Start the stream of every replica where the single run with its seed starts it."""
        self._stream = [mix("epoch", seed, epoch, rank) for seed in self.seeds]
        self._generators.clear()

    def forward(self, batch: Any, **weights: float) -> dict[str, Tensor]:
        drawn = self._drawn(batch, weights)
        if self.separately is None:
            try:
                return self._map(self._tensors(), batch, drawn, weights)
            except RuntimeError as error:
                if not any(word in str(error) for word in NOT_MAPPED):
                    raise
                self.separately = str(error)
        # Unbound at once: the slope of value[k] is as large as all of value, for every k.
        rows = {name: value.unbind(0) for name, value in self._tensors().items()}
        each = [
            self._one(
                {name: row[k] for name, row in rows.items()},
                nth(batch, k),
                nth(drawn, k),
                weights,
            )
            for k in range(self.members)
        ]
        return {name: torch.stack([terms[name] for terms in each]) for name in each[0]}

    @torch.no_grad()
    def after_step(self) -> None:
        """What each model does after a step of the optimiser, if anything."""
        if not hasattr(self.stack, "after_step"):
            return
        called = _AfterStep(self.stack)
        tensors = {f"model.{name}": value for name, value in self._tensors().items()}
        # Not mapped: what writes to weights is elementwise, and lerp_ has no rule for it.
        for k in range(self.members):
            functional_call(called, nth(tensors, k), ())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refused: the compiler takes up nothing of what is mapped over.

        Slopes come out the same; but where the laws bring their own derivatives torch 2.13 cannot
        look into a mapped function, leaves the whole of it to be run as it is, and a step is
        slower by the attempt (``tests/benchmarks/replicas.py --compile``).

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "replicas are not compiled: torch 2.13 does not look into what is mapped over where "
            "laws bring their own derivatives, and steps would only be slower; leave compile out"
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of a model, if it has any."""
        own = getattr(self.stack, "parameter_groups", None)
        return [{"params": list(self.stack.parameters())}] if own is None else own()

    def statistics(self, batch: Any, k: int) -> dict[str, float]:
        """Figures of replica k on its part of a batch, where the models have some."""
        model = self.model(k)
        return getattr(model, "statistics", lambda _: {})(nth(batch, k))

    # ---- one replica --------------------------------------------------------------------------

    @torch.no_grad()
    def model(self, k: int) -> nn.Module:
        """A copy of replica k, as a model of its own."""
        return replaced(self.stack, lambda name, value: value[k].clone())

    def split(self, last: Checkpoint) -> list[Checkpoint]:
        """The checkpoint of every replica: what the single run with its seed would have."""
        lost = last.extra.get("lost", {})
        shared = {name: value for name, value in last.extra.items() if name != "lost"}
        found = []
        for k in range(self.members):
            model = {name.removeprefix("stack."): v[k].clone() for name, v in last.model.items()}
            state = {
                i: {name: v[k].clone() if v.dim() else v.clone() for name, v in values.items()}
                for i, values in last.optimizer["state"].items()
            }
            history = [
                {name: value for name, value in row.items() if name != "replica"}
                for row in last.history
                if row["replica"] == k
            ]
            extra = {**shared, "lost": {0: lost[k]}} if k in lost else dict(shared)
            optimizer = {**copy.deepcopy(last.optimizer), "state": state}
            found.append(Checkpoint(last.epoch, model, optimizer, history, extra))
        return found

    @staticmethod
    def join(parts: Sequence[Checkpoint]) -> Checkpoint:
        """The checkpoint that ``split`` makes ``parts`` of; ``extra`` is that of the first.

        Raises:
            ValueError: if they are not of one epoch.
        """
        epochs = sorted({part.epoch for part in parts})
        if len(epochs) != 1:
            raise ValueError(f"checkpoints of epochs {epochs}: expected those of one epoch")
        first = parts[0]
        model = {
            f"stack.{name}": torch.stack([part.model[name] for part in parts])
            for name in first.model
        }
        state = {
            i: {
                name: torch.stack([part.optimizer["state"][i][name] for part in parts])
                if value.dim()
                else value.clone()
                for name, value in values.items()
            }
            for i, values in first.optimizer["state"].items()
        }
        history = [
            {"epoch": row["epoch"], "replica": k, **row}
            for k, part in enumerate(parts)
            for row in part.history
        ]
        history.sort(key=lambda row: row["epoch"])
        lost = {k: part.extra["lost"][0] for k, part in enumerate(parts) if "lost" in part.extra}
        extra = {name: value for name, value in first.extra.items() if name != "lost"}
        extra |= {"lost": lost} if lost else {}
        optimizer = {**copy.deepcopy(first.optimizer), "state": state}
        return Checkpoint(epochs[0], model, optimizer, history, extra)

    # ---- the computation ----------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.stack.named_parameters()), **dict(self.stack.named_buffers())}

    def _one(
        self,
        tensors: dict[str, Tensor],
        batch: Any,
        drawn: Sequence[Tensor],
        weights: Mapping[str, float],
    ) -> dict[str, Tensor]:
        with Given(drawn):
            return functional_call(self.stack, tensors, (batch,), dict(weights))

    def _map(
        self,
        tensors: dict[str, Tensor],
        batch: Any,
        drawn: list[Tensor],
        weights: Mapping[str, float],
    ) -> dict[str, Tensor]:
        def one(tensors: dict[str, Tensor], batch: Any, drawn: list[Tensor]) -> dict[str, Tensor]:
            return self._one(tensors, batch, drawn, weights)

        return vmap(one)(tensors, batch, drawn)

    def _drawn(self, batch: Any, weights: Mapping[str, float]) -> list[Tensor]:
        """What every replica draws in a step on such a batch, ``(K, *shape)`` each."""
        leaves, layout = tree_flatten(batch)
        key = (str(layout), tuple(leaf.shape for leaf in leaves), self.training)
        if key not in self._noted:
            self._noted[key] = self._note(batch, weights)
        return [
            torch.stack([draw(generator) for generator in self._generators_on(device)])
            for device, draw in self._noted[key]
        ]

    @torch.no_grad()
    def _note(self, batch: Any, weights: Mapping[str, float]) -> list[tuple[torch.device, Draw]]:
        tensors, batch = nth((self._tensors(), batch), 0)
        # Cloned: a model may write to its buffers.
        tensors = {name: value.clone() for name, value in tensors.items()}
        cuda = sorted({value.device.index for value in tensors.values() if value.is_cuda})
        return noted(
            lambda: functional_call(self.stack, tensors, (batch,), dict(weights)),
            type(self.stack).__name__,
            cuda,
        )

    def _generators_on(self, device: torch.device) -> list[torch.Generator]:
        if device not in self._generators:
            self._generators[device] = [
                torch.Generator(device).manual_seed(seed) for seed in self._stream
            ]
        return self._generators[device]
