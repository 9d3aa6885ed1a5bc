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
# # Poses from counts: SO(3)
#
# A pose in space takes three numbers, and no three angles do for all of them: rotations are a
# closed space of three dimensions, SO(3). Here cells are tuned to poses, and their counts are all
# that is given. (For pictures, and for what actions do to poses, see [the third
# tutorial](03_pose.py).)

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch

from manifold_ae import data, interop, manifolds, metrics
from manifold_ae.estimators import DeltaVAE
from manifold_ae.models import arranged

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %%
recording = data.simulate("so3", 9000, seed=0)
train, test = recording.x[:8000].numpy(), recording.x[8000:].numpy()
true = recording.points[8000:].double()

# %% [markdown]
# ## Fit
#
# In three dimensions it is easy to begin with the wrong arrangement, and a network that does ends
# with a map that is folded somewhere. But which cells fire together says already how poses lie to
# each other: the leading principal components of the counts are, up to a linear map and noise, the
# nine entries of the rotation. So training turns them until they look like rotations, and begins
# there (`settings={"start": "random"}` would begin anywhere).

# %%
vae = DeltaVAE(
    "so3",
    "poisson",
    encoder_hidden=(128, 128),
    decoder_hidden=(128,),
    batch_size=64,
    epochs=10,
    lr=2e-3,
    lr_schedule="one-cycle",
    kl_warmup=0.5,
    random_state=0,
)
points, radius = vae.fit(train).transform(test, return_uncertainty=True)
print(points.shape)

# %% [markdown]
# `transform` gives matrices, their nine numbers in a row. What pose is called upright, and whether
# poses are those of the body seen from the room or of the room seen from the body, is not in the
# counts: the isometries of SO(3) are $R\mapsto LRN$ and $R\mapsto LR^{\mathsf T}N$.

# %%
generator = torch.Generator().manual_seed(0)
M = manifolds.SO3()
poses = torch.from_numpy(points).reshape(-1, 3, 3).double()
found = metrics.align(M, poses, true)
print(found.words)
errors = found.residuals.rad2deg().numpy()
print(f"median error {np.median(errors):.0f}°; of two poses at random 132°")

# %% [markdown]
# The components where training began, without any network:

# %%
features, _ = arranged(M, torch.from_numpy(test).double().log1p(), generator=generator)
linear = metrics.align(M, M.from_features(features), true).residuals.rad2deg()
print(f"median error {linear.median():.0f}°")

# %% [markdown]
# Who knows the tuning can do this, for a hundred of the samples:

# %%
grid = M.random_uniform(20_000, generator=generator, dtype=torch.float64)
rates = recording.tuning(grid)
log_p = recording.x[8000:8100].double() @ rates.log().T - rates.sum(-1)
mean = torch.einsum("ng,gij->nij", log_p.softmax(-1), grid)
limit = M.dist(M.projx(mean), true[:100]).rad2deg()
print(f"median error with known tuning {limit.median():.0f}°")

# %% [markdown]
# ## Where a cell likes to be
#
# The mean of poses is not that of matrices, or of angles. `interop.frechet_mean` finds the pose
# with the least mean squared distance to the given ones, here to those in which a cell fired most.
# Held against the cells' true preferred poses:

# %%
preferred = []
for cell in range(test.shape[1]):
    most = np.argsort(test[:, cell])[-30:]
    preferred.append(interop.frechet_mean(M, poses[most], weights=test[most, cell]))
moved = found.apply(torch.stack(preferred))
gaps = M.dist(moved, recording.tuning.preferred.double()).rad2deg()
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.hist(errors, bins=40)
left.set(xlabel="error of a pose (degrees)", ylabel="samples")
right.hist(gaps.numpy(), bins=20)
right.set(xlabel="error of a preferred pose (degrees)", ylabel="cells")

# %% [markdown]
# ## How sure?
#
# The radius is the standard deviation in each of three directions, so that errors are larger than
# it: nine in ten poses should lie within 2.5 radii, as of a normal law in three dimensions.

# %%
for name, refined in (("encoder's", False), ("model's own", True)):
    points, radius = vae.transform(test, return_uncertainty=True, refined=refined)
    off = metrics.align(M, torch.from_numpy(points).reshape(-1, 3, 3).double(), true)
    off = off.residuals.rad2deg().numpy()
    inside = 100 * (off < 2.5 * np.rad2deg(radius)).mean()
    print(f"the {name}: median error {np.median(off):.0f}°, within 2.5 radii {inside:.0f} %")

# %% [markdown]
# The encoder's radii are too small: it is one function for all samples, and its places are off by
# more than it says. What decoder and prior imply together needs no encoder, and is asked for by
# `refined=True`: some milliseconds a sample, with centres that are nearer to the truth, and radii
# that [hold what they say](../results/decoding.md). Both are right only if the map is. That
# training began at components is no proof of that: where in doubt train several, and keep the best
# by the held-out `score`.
