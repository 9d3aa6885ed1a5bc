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
# # First light: digits on a sphere
#
# A variational autoencoder usually puts its latents in a plane. Here they go on a sphere: every
# picture becomes a direction, with an uncertainty. The data are 1,797 handwritten digits of 8×8
# pixels, which come with scikit-learn; nothing is downloaded. Training takes some ten seconds.

# %%
# %matplotlib inline
import torch

from manifold_ae import data, plots, run
from manifold_ae.experiments import VAE

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %% [markdown]
# ## Train
#
# A `VAE` says what is to be trained; whatever is not given keeps its default. `run.train` loads the
# data, holds out a fifth of them, scales the rest, builds the networks and trains. With a folder
# as second argument it keeps everything there.

# %%
config = VAE(
    manifold="sphere:2",
    data="digits",
    encoder_hidden=(256, 256, 256),
    decoder_hidden=(256, 256),
    epochs=80,
    lr=2e-3,
    lr_schedule="one-cycle",
    kl_warmup=0.5,
)
trained = run.train(config)

# %%
metrics = trained.evaluate()
for name in ("elbo", "kl", "mse", "log_likelihood"):
    print(f"{name:>15} {metrics[name]:8.3f}")

# %% [markdown]
# All of it is measured on the held-out digits. `elbo` is the lower bound on the log-likelihood, in
# nats a picture. It is positive because it is a log-*density*: where pixels hardly vary, densities
# are large. `log_likelihood` is the tighter estimate from 100 importance samples. `kl` is what a
# latent costs: about five nats, as much as telling apart $e^5 \approx 150$ patches of the
# sphere. `mse` is per pixel, for pixels between 0 and 1.

# %%
plots.curves({name: [row[name] for row in trained.history] for name in trained.history[0]})

# %% [markdown]
# ## Look at the latents
#
# `encode` takes raw observations and returns arrays: points on the sphere, their longitude and
# latitude, and how sure the model is. The encoder has not seen a label; colours come afterwards.

# %%
digits = data.load("digits")
latents = trained.encode(digits.test)
{name: value.shape for name, value in latents.items()}

# %%
manifold = trained.model.manifold
plots.latents(manifold, latents["points"], digits.test_labels, title="Test digits on the sphere")

# %% [markdown]
# Digits of one kind lie together, and shapes that resemble each other are neighbours. There is no
# centre and no border: a plane has to push some digits to the rim, a sphere does not.
#
# Which way the sphere is turned, and whether it is mirrored, means nothing. Another seed gives
# another orientation, and often another arrangement; only distances are to be read.

# %% [markdown]
# ## Decode the sphere
#
# The decoder maps any direction to a picture. On a grid of longitude and latitude, the left edge
# continues at the right one; the rows at the top and at the bottom are small circles around the
# poles, drawn out.

# %%
plots.decoded_grid(manifold, trained.decode, digits.shape)

# %% [markdown]
# ## How sure is it?
#
# The posterior is Brownian motion that started at the point and ran for a time $t$; $\sqrt t$ is
# its standard deviation in each direction, in radians. In degrees, the median over the test digits
# of a kind, and the range:

# %%
radius = torch.from_numpy(latents["standard_deviation"]).rad2deg()
for digit in range(10):
    some = radius[digits.test_labels == digit]
    print(f"{digit}: {some.median():4.1f}°   (from {some.min():.1f}° to {some.max():.1f}°)")

# %% [markdown]
# A whole hemisphere is 90°. The uncertainty is that of the model, given its decoder: it says how
# far a latent can move before the reconstruction suffers, not how sure one may be that a 3 is a 3.

# %%
shown = trained.scaled(digits.test[:12])
rebuilt = trained.decode(torch.from_numpy(latents["points"][:12]))
plots.reconstructions(shown, rebuilt, labels=digits.test_labels[:12])

# %% [markdown]
# Two numbers a picture are few: reconstructions show the kind of digit, now and then the wrong one,
# and its slant, but not the hand.

# %% [markdown]
# ## What the observation model does
#
# For the digits the default observation model is a Gaussian with a standard deviation learned for
# every pixel. The ΔVAE paper uses a Gaussian of variance one. The same network with that:

# %%
plain = run.train(config.replace(likelihood="gaussian")).evaluate()
print(f"learned deviations: kl {metrics['kl']:.2f}, mse {metrics['mse']:.3f}")
print(f"variance one:       kl {plain['kl']:.2f}, mse {plain['mse']:.3f}")

# %% [markdown]
# The divergence is zero: every posterior is the uniform law, the latent is not used, and all
# reconstructions are the mean picture. That is not a failure of the training. With variance one,
# the squared error saved by a latent is worth half of it in nats, summed over 64 pixels:

# %%
saved = 0.5 * 64 * (plain["mse"] - metrics["mse"])
print(f"{saved:.2f} nats saved, at a cost of {metrics['kl']:.2f}")

# %% [markdown]
# On pictures with more pixels, such as MNIST's 784, variance one is enough. The
# [theory](../theory/delta_vae.md) has more on this.
#
# ## Next
#
# - The same from the command line: `manifold-ae train vae --manifold sphere:2 --data digits --out
#   runs/sphere`, and `manifold-ae plot runs/sphere`.
# - Other manifolds: `torus:2`, `circle`, `euclidean:2`; `manifold-ae list manifolds` names them.
# - [Your own data](../guide/your_data.md).
