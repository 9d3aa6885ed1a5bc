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
# # Grid cells on a torus, and on the wrong manifold
#
# The grid cells of one module fire in the same triangular pattern, each shifted by a phase of its
# own. What they say together is where the animal is within one tile of the pattern: two angles, a
# torus ([Gardner et al., 2022](https://doi.org/10.1038/s41586-021-04268-7)). A model with a torus
# as its latent space finds them from counts. So does, at first sight, a model with another latent
# space: every run ends, and draws a picture. What tells the right one from a wrong one?

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch

from manifold_ae import data, metrics, plots
from manifold_ae.estimators import DeltaVAE
from manifold_ae.models import arranged

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %% [markdown]
# ## The recording
#
# Fifty simulated cells, with Poisson counts. The positions are independent of each other, so that
# any rows can be held out; of a recording along time, hold out whole stretches.

# %%
recording = data.simulate("torus", 5000, seed=0)
train, test = recording.x[:4000].numpy(), recording.x[4000:].numpy()
true = recording.points[4000:].double()

# %% [markdown]
# ## The right manifold

# %%
settings = {
    "likelihood": "poisson",
    "encoder_hidden": (64, 64),
    "decoder_hidden": (64,),
    "batch_size": 64,
    "epochs": 16,
    "lr": 3e-3,
    "lr_schedule": "one-cycle",
    "num_samples": 30,
    "random_state": 0,
}
torus = DeltaVAE("torus:2", **settings).fit(train)
M = torus.manifold_
points, radius = torus.transform(test, return_uncertainty=True)
found = metrics.align(M, torch.from_numpy(points).double(), true)
print(found.words)
print(f"root mean squared error {found.residuals.square().mean().sqrt().rad2deg():.1f}°")

# %% [markdown]
# Which two circles are called the angles of a torus is a choice: $(\alpha,\beta)$ serve as well as
# $(\alpha,\alpha+\beta)$. `align` looks for the integer matrix $W$ and the shift that lead to the
# true angles. Its determinant of ±1 says that the torus was wrapped around once. Zero would have
# been a fold: two places of the animal at one place of the map. Training begins at principal
# components of the counts, turned until they lie nearest to a torus, and from there seldom folds;
# where in doubt, `restarts=8` makes short trials and goes on with the best.
#
# Those components alone are a map already, though a rough one. Two angles read off them two by two
# are none:

# %%
roots = torch.from_numpy(test).double().sqrt()
plain = metrics.PrincipalAngles.fit(torch.from_numpy(train).double().sqrt(), 2)(roots)
turned, _ = arranged(M, roots, generator=torch.Generator().manual_seed(0))
for name, z in (("two by two", M.from_angles(plain)), ("turned", M.from_features(turned))):
    error = metrics.align(M, z, true).residuals.square().mean().sqrt().rad2deg()
    print(f"components {name}: root mean squared error {error:.0f}°")

# %% [markdown]
# Circular coordinates do not find this torus either, [as measured](../results/decoding.md).
#
# Latents in their own square, whose opposite sides are one, in the colours of the true angles:

# %%
angles = recording.angles[4000:]
plots.latents(M, torch.from_numpy(points), angles, title="Latents on the torus")

# %% [markdown]
# Nobody tells the true angles outside a simulation. What can be seen there is each cell's map: how
# its rate depends on the latent. Of a good map every cell has one round field.

# %%
plots.decoded_grid(M, torus.run_.decode, (50,))

# %% [markdown]
# ## Wrong ones
#
# The same data, networks and training; only the latent space is another. `score` is the mean
# log-likelihood of the held-out rows.

# %%
others = {name: DeltaVAE(name, **settings).fit(train) for name in ("circle", "sphere:2")}
others |= {name: DeltaVAE(name, **settings).fit(train) for name in ("euclidean:2", "euclidean:4")}
models = {"torus:2": torus, **others}
print(f"{'':>12} {'log-likelihood':>15} {'± (paired)':>11} {'KL':>6}")
reference = torus.score_samples(test)
for name, model in models.items():
    scores = model.score_samples(test)
    spread = (scores - reference).std() / np.sqrt(len(scores))
    kl = model.run_.history[-1]["kl"]
    print(f"{name:>12} {scores.mean():15.2f} {spread:11.2f} {kl:6.2f}")

# %% [markdown]
# A circle is too small and loses most. A sphere and a plane have two dimensions as the torus has,
# and still lose nats by the sample: a torus cannot be laid out on them without a tear, and along
# the tear the decoder is wrong. In four flat dimensions a torus has room, and no tear; yet the
# prior there is not that of a torus, and the KL pays for it. Between two models that do not differ
# by more than their error, take the one of smaller dimension.
#
# Where the tear goes can be seen. Take pairs of samples that are truly near, and ask how far apart
# their latents are, in the unit of the distance between latents at random:

# %%
gaps = torch.stack([M.dist(z.expand_as(true), true) for z in true])
near = torch.argwhere((gaps < 0.25) & (gaps > 0))
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, model in models.items():
    N, z = model.manifold_, torch.from_numpy(model.transform(test)).double()
    z = z.reshape(-1, *N.ambient_shape)
    usual = N.dist(z, z.roll(1, 0)).median()
    apart = (N.dist(z[near[:, 0]], z[near[:, 1]]) / usual).sort().values
    axes.plot(apart, np.linspace(0, 1, len(apart)), label=name)
    print(f"{name:>12}: farther than half of that {100 * (apart > 0.5).double().mean():5.1f} %")
axes.set(xlim=(0, 1.5), xlabel="distance of latents (of two at random: 1)", ylabel="part of pairs")
axes.legend(frameon=False)

# %% [markdown]
# On the torus neighbours stay neighbours. On the sphere and in the plane some are torn apart.
#
# ## What to do with data of your own
#
# - Fit the candidates, and compare held-out log-likelihoods, with flat spaces among the candidates.
# - Look at the cells' maps: one field each, round, and all over the manifold.
# - Fit with several seeds: do the maps agree, up to `metrics.align`?
# - `manifold-ae evaluate RUN --topology` counts the holes of the latents.
