# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A ring from spike counts: head direction
#
# Head-direction cells fire when an animal looks their way. What they say together is one angle:
# the population lives on a circle. Here it is found from counts alone, without anyone having
# tracked the head; with a radius for every sample, which is then held against the errors; and
# with a simpler method beside it. The recording is simulated, so that the truth is known.

# %%
# %matplotlib inline
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA

from manifold_ae import data, manifolds, metrics
from manifold_ae.estimators import DeltaVAE

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %% [markdown]
# ## The recording
#
# Thirty cells, twelve thousand bins of time, some twenty spikes in a bin. The animal turns at
# random; every cell has a direction and a rate of its own, and counts are Poisson. The last sixth
# is held out: of a recording, hold out a stretch of time, never rows at random, whose neighbours
# would have been trained on.

# %%
recording = data.simulate("ring", 12_000, smooth=True, gain=0.3, seed=0)
counts, true = recording.x.numpy(), recording.points
train, test = counts[:10_000], counts[10_000:]

shown = slice(10_000, 10_300)
preferred = manifolds.FlatTorus(1).to_angles(recording.tuning.preferred)[:, 0].numpy()
by_direction = np.argsort(preferred)
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.imshow(counts[shown][:, by_direction].T, aspect="auto", cmap="Greys", origin="lower")
axes.set(xlabel="bin of time", ylabel="cell, by its direction", title="Counts in 300 bins")

# %% [markdown]
# Sorted by direction, the hump of activity is seen to wander. A method gets the cells unsorted.
#
# ## Fit
#
# The estimator has scikit-learn's conventions. What has to be said is the shape, `circle`, and what
# the values are, counts: `poisson`. The networks are small and the epochs few, for the sake of this
# page; the defaults are larger.

# %%
settings = {
    "likelihood": "poisson",
    "encoder_hidden": (64, 64),
    "decoder_hidden": (64,),
    "batch_size": 64,
    "epochs": 6,
    "lr": 3e-3,
    "lr_schedule": "one-cycle",
    "random_state": 0,
}
vae = DeltaVAE("circle", output="angles", **settings).fit(train)
angles, radius = vae.transform(test, return_uncertainty=True)
print(angles.shape, radius.shape)

# %% [markdown]
# Which direction is called zero, and which way round is positive, cannot be known from counts.
# `metrics.align` finds the isometry of the circle that fits best; after that, angles can be
# compared.

# %%
M = vae.manifold_


def errors(found):
    """Signed differences from the true angles of the held-out part, in degrees."""
    found, where = M.from_angles(torch.as_tensor(found).double()), true[10_000:].double()
    moved = metrics.align(M, found, where).apply(found)
    return M.signed_angles(where, moved)[:, 0].rad2deg().numpy(), moved


off, moved = errors(angles)
rms = np.sqrt((off**2).mean())
print(f"root mean squared error {rms:.1f}°")

# %%
figure, axes = plt.subplots(figsize=(4.2, 4), layout="constrained")
dots = axes.scatter(
    recording.angles[10_000:, 0].rad2deg(), M.to_angles(moved)[:, 0].rad2deg(),
    c=np.rad2deg(radius), s=5, cmap="viridis",
)  # fmt: skip
figure.colorbar(dots, label="radius (degrees)")
ticks = [-180, -90, 0, 90, 180]
axes.set(xlabel="true direction (degrees)", ylabel="found (degrees)", xticks=ticks, yticks=ticks)

# %% [markdown]
# The line closes on itself: its two corners are one place.
#
# ## How well could it be done?
#
# Who knows the tuning curves can do no better than Bayes' rule. The mean direction under
# p(angle | counts), on a grid:

# %%
grid = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)[:-1, None]
rates = recording.tuning(M.from_angles(grid))
log_p = recording.x[10_000:].double() @ rates.log().T - rates.sum(-1)
mean = log_p.softmax(-1) @ M.from_angles(grid)
limit = M.signed_angles(true[10_000:].double(), M.projx(mean)).rad2deg().square().mean().sqrt()
print(f"with known tuning curves {limit:.1f}°; without {rms:.1f}°")

# %% [markdown]
# The decoder has learned the tuning curves. Here are those of six cells, as counts a bin against
# the angle found, and the true ones, dashed. `inverse_transform` takes angles to mean counts.

# %%
there = metrics.align(M, true[10_000:].double(), M.from_angles(torch.as_tensor(angles).double()))
at_truth = M.to_angles(there.apply(M.from_angles(grid)))
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for k, cell in enumerate(by_direction[::5]):
    axes.plot(grid.rad2deg(), vae.inverse_transform(at_truth)[:, cell], color=f"C{k}")
    axes.plot(grid.rad2deg(), rates[:, cell], color=f"C{k}", linestyle="dashed", linewidth=1)
axes.set(xlabel="direction (degrees)", ylabel="counts a bin", xticks=ticks)

# %% [markdown]
# ## What the radius means
#
# The posterior of a sample is Brownian motion from its angle: in one dimension, a bell whose
# standard deviation is the radius. If that is right, errors are as large as radii, sample by
# sample. In ten groups of like radius:

# %%
groups = np.array_split(np.argsort(radius), 10)
said = [np.rad2deg(np.sqrt((radius[g] ** 2).mean())) for g in groups]
seen = [np.sqrt((off[g] ** 2).mean()) for g in groups]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.plot(said, seen, "o")
left.plot([0, max(seen)], [0, max(seen)], color="grey", linewidth=1)
left.set(xlabel="radius (degrees)", ylabel="root mean squared error (degrees)")
right.plot(test.sum(1), np.rad2deg(radius), ".", markersize=3)
right.set(xlabel="spikes in the bin", ylabel="radius (degrees)")
inside = (np.abs(off) < 1.645 * np.rad2deg(radius)).mean()
print(f"nine in ten should lie within 1.645 radii; {100 * inside:.0f} % do")

# %% [markdown]
# Bins with few spikes are the uncertain ones, and the radius says so. It is somewhat too small. It
# is the model's own uncertainty, given its decoder; what the networks have not learned from a
# finite recording is not in it. Nor is that the line above is bent: the prior takes all angles for
# equally frequent, the animal did not, and so the model's degrees are a little longer here and
# shorter there. Fewer samples make it worse, as the next table shows.
#
# ## A simpler way
#
# Two principal components of the square roots of counts, and the angle in their plane. It costs a
# millisecond. In the table, `steps` are those of training. A warning says which rows are few.

# %%
rng = np.random.default_rng(0)
print(
    f"{'samples':>8} {'steps':>6} {'PCA':>7} {'ΔVAE':>7} {'refined':>8} {'within 1.645 radii':>20}"
)
for n, steps in ((50, 900), (100, 900), (100, 150), (1000, 900), (10_000, 900)):
    some = train[rng.permutation(10_000)[:n]]
    pca = PCA(2, whiten=True).fit(np.sqrt(some))
    plane = pca.transform(np.sqrt(test))
    simple, _ = errors(np.arctan2(plane[:, 1:], plane[:, :1]))
    batch = min(64, n)
    few = {"batch_size": batch, "epochs": max(1, steps * batch // n)}
    one = DeltaVAE("circle", output="angles", **{**settings, **few}).fit(some)
    line = f"{n:8d} {steps:6d} {np.sqrt((simple**2).mean()):6.1f}°"
    covered = []
    for refined in (False, True):
        found, sure = one.transform(test, return_uncertainty=True, refined=refined)
        ours, _ = errors(found)
        line += f" {np.sqrt((ours**2).mean()):{6 + refined}.1f}°"
        covered.append(f"{100 * (np.abs(ours) < 1.645 * np.rad2deg(sure)).mean():.0f}")
    print(f"{line} {', '.join(covered):>18} %")

# %% [markdown]
# Both have the noise of counts; PCA has also an egg for a circle, since the cells' directions and
# rates are not evenly spread, and more samples do not mend that. The ΔVAE begins at these same two
# components, learns the tuning, and comes near to the limit. `refined` asks the posterior that its
# decoder and prior imply in place of the encoder's, which only approximates it: angles are nearer
# to the truth, and radii hold more, of the 90 % that they should. What speaks for PCA: it takes no
# time and has no settings. From few samples a ΔVAE learns noise by heart, and then its radius is
# too small; fewer steps help. The table has one draw of rows for each number; more, on other cells,
# are [among the results](../results/decoding.md).
#
# ## Next
#
# - [Grid cells on a torus](06_grid_cells.py), and how to see that a manifold is the wrong one.
# - The same from the command line, with [your own data](../guide/your_data.md).
