"""What diffusion refuses where data are made of it, and networks of one's own as its denoisers."""

import math

import pytest
import torch
from torch import nn

from manifold_ae import data
from manifold_ae.diffusion import Schedule, exact, samplers
from manifold_ae.models import DiffusionModel
from manifold_ae.nn import MLPDenoiser

SCHEDULE = Schedule.cosine(50)
X = torch.linspace(-1, 1, 12).view(3, 2, 2)


def ignorant(x: torch.Tensor, t: object) -> torch.Tensor:
    return torch.zeros_like(x)


def failing(x: torch.Tensor, t: object) -> torch.Tensor:
    return x if t != 20 else x / 0


#: Options of "ddim" traces that are wrong → what is said.
WRONG = {
    "out of order": ({"times": (10, 20, 0)}, r"times has 10 before 20: .*fall"),
    "twice the same": ({"times": (20, 20, 0)}, r"times has 20 before 20"),
    "beyond T": ({"times": (51, 0)}, r"t=51 and s=0: expected 0 ≤ s < t ≤ 50"),
    "before 0": ({"times": (20, -1)}, r"s=-1: expected 0 ≤ s < t ≤ 50"),
    "no time": ({"times": ()}, r"times=\(\): expected two times at least"),
    "t = 0 alone": ({"times": (0,)}, r"times=\(0,\): expected two times at least"),
    "half a step": ({"times": (20, 0.5)}, r"times=0.5: expected an integer"),
    "no step": ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
    "negative noise": ({"eta": -0.1}, r"eta=-0.1: expected a number of at least 0"),
    "no noise at all": ({"eta": math.nan}, r"eta=nan: expected a number of at least 0"),
    "a network that diverged": (
        {"denoiser": failing, "times": (40, 20, 0)},
        r"predicted_noise has 12 of 12 values that are not finite at t=20",
    ),
    "a network of another shape": (
        {"denoiser": lambda x, t: x[:1]},
        r"the denoiser returned \(1, 4\).* at t=50: expected \(3, 4\)",
    ),
}


@pytest.mark.parametrize("which", WRONG)
def test_denoising_traces_refuse_what_is_no_chain(which):
    options, message = WRONG[which]
    with pytest.raises(ValueError, match=message):
        data.diffusion_traces("ddim", X, SCHEDULE, **{"denoiser": ignorant, **options})


@pytest.mark.parametrize("size", [100.0, 1e-3])
def test_data_out_of_scale_are_refused_before_noise_is_added(size):
    with pytest.raises(ValueError, match=r"root mean square .*expected about 1.*standardise them"):
        data.diffusion_traces("vp", size * X, SCHEDULE)


@pytest.mark.parametrize("x", [torch.zeros(0, 4), torch.full((2, 4), math.nan)], ids=["0", "nan"])
@pytest.mark.parametrize("kind", ["vp", "ve", "ddim", "ddpm"])
def test_starts_that_are_none_or_not_finite_are_refused(kind, x):
    options = {
        "vp": {"schedule": SCHEDULE},
        "ve": {"sigmas": [0.1]},
        "ddim": {"schedule": SCHEDULE, "denoiser": ignorant},
        "ddpm": {"schedule": SCHEDULE, "denoiser": ignorant},
    }[kind]
    with pytest.raises(ValueError, match=r"has shape \(0, 4\): expected|not finite"):
        data.diffusion_traces(kind, x, **options)


@pytest.mark.parametrize("t", [0, 51])
def test_denoisers_have_no_time_zero_and_none_beyond_the_last(t):
    known = exact.gaussian(torch.zeros(2), torch.ones(2), SCHEDULE)
    learned = DiffusionModel(SCHEDULE, MLPDenoiser(2, 8, 1), (2,)).denoiser
    for denoiser in (known, learned):
        with pytest.raises(ValueError, match="expected 0 ≤ s < t ≤ 50"):
            denoiser(torch.zeros(3, 2), t)


# ---- networks of one's own ----------------------------------------------------------------------


class TinyUNet(nn.Module):
    """Down, up, and across, told the time as one more channel: no class of this library."""

    def __init__(self, channels: int = 1, out: int | None = None) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels + 1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.across = nn.Conv2d(channels + 5, out or channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
        tau = torch.as_tensor(t, device=x.device).to(x).expand(len(x)) / 50
        x = torch.cat([x, tau.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)
        return self.across(torch.cat([x, self.up(self.down(x).relu())], 1))


@pytest.mark.parametrize("side", [8, 28])
def test_any_module_of_the_form_is_a_denoiser(side, dtype, device):
    model = DiffusionModel(SCHEDULE, TinyUNet(), (1, side, side)).to(device=device, dtype=dtype)
    x = torch.randn(5, 1, side, side, dtype=dtype, device=device)
    model.loss(x)["loss"].backward()
    gradients = [p.grad for p in model.network.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().max() > 0 for g in gradients)
    model.after_step()
    assert model.eval().sample(3, steps=4).shape == (3, 1, side, side)
    # One integer for all is a time for each.
    rows, times = x.flatten(1), torch.full((5,), 7, device=device)
    assert torch.equal(model.denoiser(rows, 7), model.denoiser(rows, times))
    made = data.diffusion_traces("ddim", x, SCHEDULE, denoiser=model.denoiser, times=(9, 5, 0))
    assert made.shape == (1, side, side) and made.actions.shape == (5, 2, side**2 + 1)
    end = samplers.ddim(model.denoiser, SCHEDULE, rows.double(), (9, 5, 0))
    assert (made.observations[:, -1].flatten(1) - end).abs().max() <= 1e-5


def test_denoisers_that_would_be_broadcast_are_refused():
    wide = DiffusionModel(SCHEDULE, TinyUNet(1, out=3), (1, 8, 8))
    for use in (
        lambda: wide.loss(torch.randn(2, 1, 8, 8)),
        lambda: wide.denoiser(torch.randn(2, 64), 3),
        lambda: wide.sample(2, steps=2),
    ):
        with pytest.raises(ValueError, match=r"denoiser returned \(2, 3, 8, 8\): expected \(2, 1"):
            use()
    with pytest.raises(ValueError, match="denoiser=Identity: expected a module with parameters"):
        DiffusionModel(SCHEDULE, nn.Identity(), (2,))
