"""Diffusion steps: against the textbook recurrences, and against each other's limits.

Each recurrence is written here as its paper prints it, in x̂₀ or in means and variances, and not in
the form of a group element.
"""

import math
from itertools import pairwise

import pytest
import torch

from manifold_ae import diffusion, groups
from manifold_ae.diffusion import Schedule, ddim_step, ddpm_step, ve_step, vp_step

SCHEDULES = {
    "linear": Schedule.linear(1000),
    "scaled-linear": Schedule.scaled_linear(1000),
    "cosine": Schedule.cosine(1000),
    "short": Schedule.cosine(50),
}
over_schedules = pytest.mark.parametrize("name", SCHEDULES)
PAIRS = ((1, 0), (2, 1), (50, 49), (50, 7), (37, 0))


def draws(generator, n=40, size=5, dtype=torch.float64):
    """x, a prediction and noise, each of shape ``(n, size)``."""
    return torch.randn(3, n, size, dtype=dtype, device=generator.device, generator=generator)


def act(g, x):
    return groups.ScaleTranslation(x.shape[-1]).act(g, x)


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


# ---- schedules ------------------------------------------------------------------------------


@over_schedules
def test_a_schedule_is_a_table_that_falls_from_one(name):
    schedule = SCHEDULES[name]
    table = schedule.alpha_bar
    assert table.dtype == torch.float64 and table.shape == (schedule.steps + 1,)
    assert table[0] == 1 and (table.diff() < 0).all() and table[-1] > 0
    assert gap(torch.cumprod(1 - schedule.beta, 0), table) <= 1e-14
    assert schedule.beta[0] == 0


def test_schedules_are_those_of_the_papers():
    linear, scaled, cosine = (SCHEDULES[n] for n in ("linear", "scaled-linear", "cosine"))
    beta = torch.tensor([1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)], dtype=torch.float64)
    assert gap(linear.beta[1:], beta) <= 1e-14
    root = [math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * k / 999
            for k in range(1000)]  # fmt: skip
    assert gap(scaled.beta[1:], torch.tensor(root, dtype=torch.float64).square()) <= 1e-14
    f = [math.cos(math.pi / 2 * (t / 1000 + 0.008) / 1.008) ** 2 for t in range(1001)]
    expected = torch.tensor(f, dtype=torch.float64) / f[0]
    assert gap(cosine.alpha_bar[:-1], expected[:-1]) <= 1e-12
    assert math.isclose(cosine.beta[-1].item(), 0.999)


@pytest.mark.parametrize(
    ("schedule", "reaches"),
    [
        (Schedule.linear(1000), True),
        (Schedule.cosine(1000), True),
        (Schedule.cosine(20), True),
        (Schedule.scaled_linear(1000), False),
        (Schedule.scaled_linear(1000, 2.5e-5, 0.005), False),
        (Schedule.linear(50), False),
    ],
    ids=str,
)
def test_a_schedule_says_whether_it_reaches_the_prior(schedule, reaches):
    assert schedule.reaches_prior == reaches
    assert ("does not reach" in repr(schedule)) == (not reaches)
    # The divergence by its definition, for data of mean square 1.
    signal = schedule.alpha_bar[-1].item()
    prior = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    spread = torch.tensor(1 - signal, dtype=torch.float64).sqrt()
    kl = [
        torch.distributions.kl_divergence(torch.distributions.Normal(m, spread), prior).item()
        for m in (torch.tensor(math.sqrt(signal) * x, dtype=torch.float64) for x in (1.0, -1.0))
    ]
    assert math.isclose(schedule.prior_divergence, sum(kl) / 2, rel_tol=1e-6, abs_tol=1e-15)


def test_schedules_are_values():
    assert Schedule.linear(100) == Schedule.linear(100) != Schedule.linear(101)
    assert hash(Schedule.linear(100)) == hash(Schedule(Schedule.linear(100).alpha_bar))
    given = torch.tensor([1.0, 0.5, 0.25])
    schedule = Schedule(given)
    given[1] = 0.9
    assert schedule.alpha_bar[1] == 0.5


@pytest.mark.parametrize("calls", [1, 3, 7, 50, 999, 1000])
def test_times_fall_from_the_end_to_zero(calls):
    times = SCHEDULES["linear"].times(calls)
    assert len(times) == calls + 1 and times[0] == 1000 and times[-1] == 0
    assert all(t > s for t, s in pairwise(times))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1.0, 0.5]], "shape"),
        ([1.0], "shape"),
        ([0.9, 0.5], "begins with 0.9"),
        ([1.0, 0.5, 0.5], r"alpha_bar\[2\] is 0.5, after 0.5"),
        ([1.0, 0.5, 0.0], r"alpha_bar\[2\] is 0"),
        ([1.0, math.nan, 0.1], r"alpha_bar\[1\] is nan"),
    ],
)
def test_tables_that_are_no_schedule_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        Schedule(torch.tensor(table))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Schedule.linear(0),
        lambda: Schedule.linear(10, 0.0),
        lambda: Schedule.linear(10, 0.1, 0.05),
        lambda: Schedule.scaled_linear(10, 0.1, 1.0),
        lambda: Schedule.scaled_linear(10.0),  # type: ignore[arg-type]
        lambda: Schedule.cosine(10, -1.0),
        lambda: Schedule.cosine(10, math.nan),
        lambda: Schedule.cosine(10, 0.1, 1.0),
        lambda: Schedule.linear(10).times(11),
        lambda: Schedule.linear(10).times(0),
    ],
)
def test_schedules_refuse_what_they_cannot_be(build):
    with pytest.raises(ValueError, match=r"expected|must be"):
        build()


# ---- steps against the recurrences ----------------------------------------------------------


@over_schedules
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_ddim_is_its_recurrence(name, t, s, generator):
    """Song et al., eq. 12, through the predicted x̂₀."""
    schedule = SCHEDULES[name]
    x, predicted, noise = draws(generator)
    late, early = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    for eta in (0.0, 0.3, 1.0):
        sigma = eta * math.sqrt((1 - early) / (1 - late)) * math.sqrt(1 - late / early)
        clean = (x - math.sqrt(1 - late) * predicted) / math.sqrt(late)
        direction = math.sqrt(max(1 - early - sigma**2, 0.0)) * predicted
        expected = math.sqrt(early) * clean + direction + sigma * noise
        g = ddim_step(schedule, t, s, predicted, eta, noise)
        assert gap(act(g, x), expected) <= 1e-12


@over_schedules
@pytest.mark.parametrize("t", [1, 2, 25, 50])
def test_ddpm_is_its_recurrence(name, t, generator):
    """Ho et al., eq. 11, and eq. 7 through the predicted x̂₀."""
    schedule = SCHEDULES[name]
    x, predicted, noise = draws(generator)
    late, early = schedule.alpha_bar[t].item(), schedule.alpha_bar[t - 1].item()
    alpha = late / early
    beta = 1 - alpha
    mean = (x - beta / math.sqrt(1 - late) * predicted) / math.sqrt(alpha)
    clean = (x - math.sqrt(1 - late) * predicted) / math.sqrt(late)
    again, posterior = diffusion.published_posterior(schedule, t, x, clean)
    assert gap(again, mean) <= 1e-11  # x̂₀ is large where little signal is left
    for variance, spread in (("beta", beta), ("posterior", posterior.item())):
        sigma = math.sqrt(spread) if t > 1 else 0.0
        g = ddpm_step(schedule, t, predicted, noise, variance=variance)
        assert gap(act(g, x), mean + sigma * noise) <= 1e-12


@over_schedules
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_ddim_with_eta_one_is_ddpm_with_the_posterior_variance(name, t, s, generator):
    schedule = SCHEDULES[name]
    _, predicted, noise = draws(generator)
    implicit = ddim_step(schedule, t, s, predicted, 1.0, noise)
    ancestral = ddpm_step(schedule, t, predicted, noise, s=s, variance="posterior")
    assert gap(implicit, ancestral) <= 1e-12
    if s:
        other = ddpm_step(schedule, t, predicted, noise, s=s, variance="beta")
        assert gap(implicit, other) > 1e-5


@over_schedules
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_vp_noising_is_its_recurrence_and_from_zero_the_marginal(name, t, s, generator):
    schedule = SCHEDULES[name]
    x, _, noise = draws(generator)
    late, early = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    beta = 1 - late / early
    g = vp_step(schedule, t, noise, s=s)
    assert gap(act(g, x), math.sqrt(1 - beta) * x + math.sqrt(beta) * noise) <= 1e-12
    if s == t - 1:
        assert torch.equal(vp_step(schedule, t, noise), g)
    g = vp_step(schedule, t, noise, s=0)
    assert gap(act(g, x), math.sqrt(late) * x + math.sqrt(1 - late) * noise) <= 1e-12


def test_ve_noising_is_a_translation(generator, dtype, tolerance):
    x, noise, _ = draws(generator, dtype=dtype)
    assert gap(act(ve_step(0.7, noise), x), x + 0.7 * noise) <= tolerance
    sigma = torch.rand(len(x), generator=generator, device=x.device)
    assert gap(act(ve_step(sigma, noise), x), x + sigma.to(dtype)[:, None] * noise) <= tolerance


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (1000, 0), (500, 250), (1, 0)])
def test_ddim_takes_noisy_data_along_their_own_noise(t, s, generator, dtype, device):
    """With ε̂ = ε the noisy √ᾱ_t x₀ + √(1 − ᾱ_t) ε of one time becomes that of another."""
    schedule = SCHEDULES["linear"]
    clean, noise, _ = draws(generator, dtype=dtype)
    at_t, at_s = (
        act(vp_step(schedule, time, noise, s=0), clean) if time else clean for time in (t, s)
    )
    moved = act(ddim_step(schedule, t, s, noise), at_t)
    # 1/√ᾱ amplifies rounding, by 157 from the end of this schedule to its beginning.
    assert gap(moved, at_s) <= 1000 * torch.finfo(dtype).eps


def test_every_sample_may_have_its_own_times(generator, dtype):
    schedule = SCHEDULES["linear"]
    _, predicted, noise = draws(generator, dtype=dtype)
    t = torch.randint(1, 1001, (40,), generator=generator, device=noise.device)
    s = (t.double() * torch.rand(40, generator=generator, device=t.device)).long()
    for step in (
        lambda t, s, e, z: ddim_step(schedule, t, s, e, 0.5, z),
        lambda t, s, e, z: ddpm_step(schedule, t, e, z, s=s),
        lambda t, s, e, z: ddpm_step(schedule, t, e, z, s=s, variance="beta"),
        lambda t, s, e, z: vp_step(schedule, t, z, s=s),
    ):
        singly = [step(int(t[i]), int(s[i]), predicted[i], noise[i]) for i in range(40)]
        assert torch.equal(step(t, s, predicted, noise), torch.stack(singly))


def test_steps_keep_the_dtype_and_lose_nothing_to_it(generator, dtype):
    schedule = SCHEDULES["cosine"]
    _, predicted, noise = draws(generator)
    precise = ddim_step(schedule, 999, 500, predicted, 0.5, noise)
    g = ddim_step(schedule, 999, 500, predicted.to(dtype), 0.5, noise.to(dtype))
    assert g.dtype == dtype
    assert gap(g.double(), precise) <= 4 * torch.finfo(dtype).eps


def test_gradients_flow_through_steps():
    schedule = SCHEDULES["short"]
    predicted = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda e: ddim_step(schedule, 9, 4, e, 0.5, noise), predicted)
    assert torch.autograd.gradcheck(lambda e: ddpm_step(schedule, 9, e, noise), predicted)


def test_dalheims_sigma_holds_for_consecutive_times_alone():
    """Its √(1 − α_t) in algorithm 3 stands for √(1 − ᾱ_t/ᾱ_s)."""
    schedule = SCHEDULES["linear"]
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def both(t, s):
        late, early = schedule.alpha_bar[t], schedule.alpha_bar[s]
        printed = ((1 - early) / (1 - late)).sqrt() * schedule.beta[t].sqrt()
        return ddim_step(schedule, t, s, zero, 1.0, one)[1].item(), printed.item()

    right, printed = both(500, 499)
    assert math.isclose(right, printed, rel_tol=1e-12)
    right, printed = both(500, 250)
    assert right > 5 * printed


# ---- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "s"),
    [(0, 0), (0, -1), (5, 5), (4, 5), (51, 50), (51, 0), (5, -1), (5.0, 1), (True, 0), (None, 0)],
)
def test_times_out_of_order_or_range_are_refused(t, s):
    schedule, noise = SCHEDULES["short"], torch.zeros(2)
    for step in (
        lambda: ddim_step(schedule, t, s, noise),
        lambda: ddpm_step(schedule, t, noise, noise, s=s),
        lambda: vp_step(schedule, t, noise, s=s),
    ):
        with pytest.raises(ValueError, match="expected"):
            step()


@pytest.mark.parametrize("t", [0, 51, -1, 2.5])
def test_the_time_alone_is_checked_too(t):
    schedule, noise = SCHEDULES["short"], torch.zeros(2)
    for step in (lambda: ddpm_step(schedule, t, noise), lambda: vp_step(schedule, t, noise)):
        with pytest.raises(ValueError, match=r"expected .*0 ≤ s < t ≤ 50|integer"):
            step()
    with pytest.raises(ValueError, match=r"expected 0 ≤ s < t ≤ 50|integers"):
        vp_step(schedule, torch.tensor([t, 5]), torch.zeros(2, 2), s=torch.tensor([0, 5]))


@pytest.mark.parametrize("eta", [-0.1, math.inf, math.nan, True, "1", None])
def test_eta_that_is_no_amount_of_noise_is_refused(eta):
    with pytest.raises(ValueError, match=r"eta=.*expected a number of at least 0"):
        ddim_step(SCHEDULES["short"], 5, 4, torch.zeros(2), eta, torch.zeros(2))


def test_eta_beyond_the_noise_that_is_left_is_refused():
    schedule, zero = SCHEDULES["short"], torch.zeros(2)
    with pytest.raises(ValueError, match=r"expected at most (1\.\d+)") as error:
        ddim_step(schedule, 40, 20, zero, 3.0, zero)
    most = float(str(error.value).split("at most ")[1].split(" ")[0])
    assert ddim_step(schedule, 40, 20, zero, most - 1e-5, zero).isfinite().all()
    assert ddim_step(schedule, 40, 0, zero, 3.0).isfinite().all()


def test_noise_is_missed_only_where_it_is_added():
    schedule, zero = SCHEDULES["short"], torch.zeros(2)
    for t in (1, torch.tensor([1])):
        for variance in ("beta", "posterior"):
            ddpm_step(schedule, t, zero, variance=variance)
        ddim_step(schedule, t, t - 1, zero, 1.0)
    with pytest.raises(ValueError, match=r"noise=None: expected .* at t=2 adds some"):
        ddpm_step(schedule, 2, zero)
    with pytest.raises(ValueError, match="noise=None"):
        ddim_step(schedule, 2, 1, zero, 0.5)
    with pytest.raises(ValueError, match=r"noise has shape \(3,\), .*: expected \(2,\)"):
        ddim_step(schedule, 2, 1, zero, 0.5, torch.zeros(3))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(wrong):
    schedule = SCHEDULES["short"]
    zero, bad = torch.zeros(2), torch.tensor([0.0, wrong])
    for step in (
        lambda: ddim_step(schedule, 5, 4, bad),
        lambda: ddim_step(schedule, 5, 4, zero, 1.0, bad),
        lambda: ddpm_step(schedule, 5, bad, zero),
        lambda: vp_step(schedule, 5, bad),
        lambda: ve_step(0.1, bad),
    ):
        with pytest.raises(ValueError, match="1 of 2 values that are not finite"):
            step()
    with pytest.raises(ValueError, match="sigma="):
        ve_step(wrong, zero)
    with pytest.raises(ValueError, match="sigma="):
        ve_step(-0.1, zero)


def test_noise_of_the_wrong_kind_is_refused():
    schedule = SCHEDULES["short"]
    with pytest.raises(ValueError, match=r"noise is torch.int64"):
        vp_step(schedule, 5, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        vp_step(schedule, 5, torch.tensor(0.0))
    with pytest.raises(ValueError, match="variance='small'"):
        ddpm_step(schedule, 5, torch.zeros(2), variance="small")


@pytest.mark.parametrize(
    "data",
    [
        torch.full((10, 3), 200.0),
        torch.arange(17.0).expand(10, 17),
        torch.full((10, 3), 0.01),
        torch.zeros(10, 3),
        torch.tensor([[1.0, math.nan]]),
        torch.ones(10, 3, dtype=torch.uint8),
        [1.0, 2.0],
    ],
    ids=["bytes", "digits", "small", "nothing", "nan", "integers", "list"],
)
def test_data_of_another_scale_are_refused(data):
    with pytest.raises(ValueError, match=r"expected about 1|not finite|float32 or float64"):
        SCHEDULES["linear"].require_scaled(data)
