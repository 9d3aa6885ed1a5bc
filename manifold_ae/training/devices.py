"""Where it runs, in what precision and how many processes; the optimiser there."""

from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

__all__ = ["make_fabric", "make_optimizer"]


class _Autocast(MixedPrecision):
    """Mixed precision that leaves a batch as it is: what a loss is held against is not rounded."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(device: str = "auto", precision: str = "32-true", devices: int = 1) -> Fabric:
    """Device, precision and processes, from their names on the command line.

    With several ``devices`` the script that runs is started once more for each of them, unless
    torchrun has done so: on CPUs they are processes, which talk by gloo.

    Raises:
        ValueError: if there is no such device, or it is one and ``devices`` are several.
    """
    kind, _, index = device.partition(":")
    if kind == "auto":
        # Not Apple's GPU: it has no float64, in which the heat kernels are evaluated.
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ValueError(f"device = {device!r}: expected auto, cpu, cuda or cuda:K")
    if kind == "cpu" and index:
        raise ValueError(f"device = {device!r}: there is one CPU, write 'cpu'")
    if devices > 1 and index:
        raise ValueError(f"device = {device!r} is one; for devices = {devices} write {kind!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': this PyTorch sees no GPU; use --device cpu or auto")
    which: Any = [int(index)] if index else devices
    how: dict[str, Any] = {"precision": precision}
    if precision.endswith("-mixed"):
        how = {"plugins": [_Autocast(precision, kind)]}  # type: ignore[arg-type]
    if devices > 1:
        how["strategy"] = "ddp"
    fabric = Fabric(accelerator=kind, devices=which, **how)
    fabric.launch()
    return fabric


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam, in its fused form wherever the device has one.

    A model may say by ``parameter_groups()`` which parameters learn faster: groups as torch's
    optimisers take them, with a factor ``lr_scale``.
    """
    devices = {parameter.device.type for parameter in model.parameters()}
    own = getattr(model, "parameter_groups", None)
    groups = [{"params": list(model.parameters())}] if own is None else own()
    return torch.optim.Adam(groups, lr=lr, fused=devices <= {"cpu", "cuda"})
