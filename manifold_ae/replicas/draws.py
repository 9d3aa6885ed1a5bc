"""Random numbers noted in one call of a model, and handed out in the next.

Inside ``vmap`` all replicas would share one stream. So a first call on one replica notes what the
model draws (``noted``); in every step each replica draws just that from a generator of its own, and
the draws go in as arguments (``Given``).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from manifold_ae.replicas.linear import Linear, is_mapped

__all__ = ["DRAWS", "Draw", "Given", "noted"]

#: What a generator makes: a draw of one replica.
Draw = Callable[[torch.Generator | None], Tensor]


def _like(function: Callable[..., Tensor]) -> Callable[..., Draw]:
    """``randn_like`` and its kin, as the draw that a call asks for."""

    def draw(x: Tensor, **kwargs: Any) -> Draw:
        where = {"dtype": x.dtype, "device": x.device} | kwargs
        return functools.partial(_draw, function, (tuple(x.shape),), where)

    return draw


def _plain(function: Callable[..., Tensor]) -> Callable[..., Draw]:
    def draw(*args: Any, **kwargs: Any) -> Draw:
        return functools.partial(_draw, function, args, kwargs)

    return draw


def _draw(
    function: Callable[..., Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    generator: torch.Generator | None,
) -> Tensor:
    return function(*args, **kwargs, generator=generator)


#: Functions that draw → the draw that a call of them asks for.
DRAWS: dict[Any, Callable[..., Draw]] = {
    **{function: _plain(function) for function in (torch.rand, torch.randn)},
    **{function: _plain(function) for function in (torch.randint, torch.randperm)},
    torch.rand_like: _like(torch.rand),
    torch.randn_like: _like(torch.randn),
}


class _Noted(TorchFunctionMode):
    """Notes what is drawn from torch's own generators, and on which device."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[tuple[torch.device, Draw]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DRAWS or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        own = {name: value for name, value in kwargs.items() if name != "generator"}
        draw = DRAWS[func](*args, **own)
        value = func(*args, **kwargs)
        self.draws.append((value.device, draw))
        return value


class Given(TorchFunctionMode):
    """Hands out, in turn, what was drawn before; and computes linear maps as one product."""

    def __init__(self, drawn: Sequence[Tensor]) -> None:
        super().__init__()
        self.drawn: Iterator[Tensor] = iter(drawn)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.linear and is_mapped(*args, **kwargs):
            return Linear.apply(*args, **kwargs)
        if func not in DRAWS or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        value = next(self.drawn, None)
        if value is None:
            raise RuntimeError(
                f"{func.__name__} draws more than in the first call on batches of this shape: what "
                "replicas draw may depend on the shape of the batch alone"
            )
        return value


def noted(
    call: Callable[[], object], name: str, cuda: Sequence[int]
) -> list[tuple[torch.device, Draw]]:
    """What a call draws from torch's own generators, in turn, and on which device.

    Arguments:
        name: of what is called, for the message.
        cuda: the GPUs on which it may draw.

    Raises:
        NotImplementedError: if it draws by other functions than those of ``DRAWS``.
    """
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(0)
        with _Noted() as seen:
            call()
        left = _random_state(cuda)
        torch.manual_seed(0)
        for _, draw in seen.draws:
            draw(None)
        # Who draws by other means leaves torch's generators elsewhere.
        if not all(map(torch.equal, left, _random_state(cuda))):
            raise NotImplementedError(
                f"{name} draws random numbers by other functions than "
                f"{', '.join(f.__name__ for f in DRAWS)}, as dropout does: its replicas cannot "
                "be given streams of their own; train one seed at a time"
            )
    return seen.draws


def _random_state(cuda: Sequence[int]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(index) for index in cuda)]
