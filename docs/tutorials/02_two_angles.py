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
# # Two angles: learning what actions do
#
# A figure is moved about in a small picture. On the right it comes back from the left, at the
# bottom from the top: its position is two angles. Nobody tells the model that. It sees pictures,
# and between any two of them the *action*, two numbers, that was taken. A homomorphism autoencoder
# (HAE) learns an encoder together with a matrix for every action, such that to move the figure is
# to multiply its latent by the matrix. Then a hundred actions are a product of a hundred matrices,
# and what they lead to can be drawn without looking again.

# %%
# %matplotlib inline
import math

import torch

from manifold_ae import data, plots, run
from manifold_ae.experiments import HAE

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %% [markdown]
# ## Traces
#
# A *world* makes such data: `sprites` has a figure on a torus. A trace is an observation, an
# action, the next observation, and so on. Three traces of four actions, none of a coordinate larger
# than 2 radians; the picture is $2\pi$ wide.

# %%
world = data.worlds.load("sprites", size=16)
generator = torch.Generator().manual_seed(0)
few = world.traces(3, 4, generator=generator, largest=2.0)
print(few)

# %%
plots.strips(
    list(few.observations),
    ["trace 1", "trace 2", "trace 3"],
    columns=["o₁", "o₂", "o₃", "o₄", "o₅"],
    title="What is seen",
)

# %% [markdown]
# The actions of the first, to the right and down, in radians:

# %%
few.actions[0]

# %% [markdown]
# ## Train
#
# An `HAE` says what is to be trained: on 3,000 traces of two actions, which is what a world gives
# by default. The representation is $\rho(X)=\exp\varphi(X)$ with a linear $\varphi$, in blocks of
# size 2: two planes, which every action turns. How fast each action turns each plane, four
# numbers, is learned. Four short trials are made, of which the best goes on.

# %%
config = HAE(
    data="sprites",
    world=("size=16",),
    traces=3000,
    encoder_hidden=(128, 128),
    decoder_hidden=(128, 128),
    epochs=30,
    lr=3e-3,
    lr_schedule="one-cycle",
)
trained = run.train(config)

# %% [markdown]
# ## The integers
#
# A block of size 2 is the generator $\begin{psmallmatrix}0&-w\\w&0\end{psmallmatrix}$: the plane
# turns by $w$ radians where the action is one radian. After a whole turn of the figure the picture
# is the same, so the plane must have turned a whole number of times. Nothing forces $w$ to be an
# integer; it is found:


# %%
def weights(model):
    """w of each plane, a row, under each action, a column, of shape ``(planes, actions)``."""
    T = model.representation.generators().detach()
    return T[:, 1::2, ::2].diagonal(dim1=1, dim2=2).mT


found = weights(trained.model)
print("weights  ", found.round().int().tolist())
print("within   ", f"{(found - found.round()).abs().max():.0e}")

# %% [markdown]
# Each plane follows one coordinate and ignores the other: this is what *disentangled* means. Which
# plane follows which, and its sense of rotation, is for chance to decide.

# %% [markdown]
# ## Two circles
#
# The encoder never saw a position. Its latents of pictures that training has not seen, on the two
# planes, coloured by where the figure really was:

# %%
test = trained.traces().test
latents = trained.encode(test.observations[:, 0])
positions = world.labels(test.states[:, 0])
plots.planes(latents, positions, names=("x", "y"), title="Latents on the planes that ρ turns")

# %% [markdown]
# On each plane there is a circle. On one the colours of x go round once and those of y are mixed;
# on the other it is y. A torus, taken apart.

# %% [markdown]
# ## Far ahead
#
# One picture is encoded; everything else comes from the actions. Training has seen two in a row,
# here there are 128:

# %%
long = world.traces(100, 128, generator=generator, largest=2.0)
predicted = trained.rollout(long.observations[:, 0], long.actions)
steps = [1, 2, 4, 8, 16, 32, 64, 128]
plots.strips(
    [[long.observations[k, steps], predicted[k, [step - 1 for step in steps]]] for k in range(2)],
    ["true", "predicted"],
    columns=steps,
    title="Predicted from the first picture and the actions",
)

# %% [markdown]
# The predictions are a little soft, as the decoder is small, and stay so: at step 128 they are as
# good as at the first. In numbers, squared errors per pixel, beside those of a model that copies
# the first picture, and of one that may look at the picture it predicts:

# %%
measured = trained.evaluate()
rollout = measured["rollout"]
plots.rollout_errors(
    rollout["horizons"],
    {name: rollout[name] for name in ("prediction", "copying", "autoencoding")},
    title="Errors do not grow",
)

# %%
for name in (
    "homomorphism_error",
    "equivariance_error",
    "alignment_residual",
    "alignment_condition",
    "d_lsbd",
):
    print(f"{name:>20}  {measured[name]:.2g}")

# %% [markdown]
# - `homomorphism_error`: by how much $\rho(gh)$ differs from $\rho(g)\rho(h)$, for actions of which
#   two wrap around.
# - `equivariance_error`: by how much a latent of a moved figure differs from the moved latent,
#   relative to the spread of the latents.
# - `alignment_residual`: the same of $\rho$ and the true representation, after the best change of
#   basis, which counts as long as its condition number is below 10; here it is 1.
# - `d_lsbd` ([Tonnaer et al., 2022](https://arxiv.org/abs/2011.06070)): zero where each factor
#   moves on a space of its own.
#
# The [theory](../theory/homomorphism.md) says what each is blind to.

# %% [markdown]
# ## Which action was it?
#
# Between two pictures that were never seen together, the action that leads from one to the other
# is the one whose matrix does. Its error in radians, over the test traces:

# %%
before, after = test.observations[:, 0], test.observations[:, 1]
inferred, _ = trained.model.infer_action(before, after)
gap = (inferred - test.actions[:, 0]).remainder(2 * math.pi)
gap = torch.minimum(gap, 2 * math.pi - gap)
print(f"median {gap.median():.3f}, 95 % below {gap.quantile(0.95):.3f}")
print("a pixel is", round(2 * math.pi / 16, 3))

# %% [markdown]
# ## Along each action
#
# `traverse` decodes $\rho(sX)z$ for one latent: what the model imagines as it goes along an action
# that was never taken that far. At $-\pi$ and at $\pi$ the figure is in the same place.

# %%
amounts = torch.linspace(-math.pi, math.pi, 9)
imagined = [trained.model.traverse(before[0], X, amounts) for X in torch.eye(2)]
plots.traversals(torch.stack(imagined), amounts, ["along x", "along y"])

# %% [markdown]
# ## What goes wrong
#
# The loss has other valleys. Single runs without precautions, and the weights of their two planes
# after eight epochs:

# %%
careless = config.replace(
    traces=2000, epochs=8, lr=1e-3, lr_schedule="cosine", restarts=1, frequency_weight=0.0
)
for seed in range(5):
    w = weights(run.train(careless.replace(seed=seed)).model).round(decimals=2) + 0.0
    print(f"seed {seed}: ", *(f"({x:5.2f}, {y:5.2f})" for x, y in w))

# %% [markdown]
# Some are right. In others a plane stands still, and one coordinate is not represented; or it turns
# twice a round, (2, 0), so that opposite positions have one latent; or it is caught between
# integers. Weights such as (1, 1) are exact, but [mix the
# factors](../theory/homomorphism.md#what-the-loss-leaves-open). Against all this there are:
#
# - *restarts*: `restarts=4` is the default; the best short trial, by its loss, goes on;
# - the *frequency penalty* `frequency_weight`, which prefers low weights, first of all to mixtures,
#   and fades away over the first half of training, as it would shorten the true weights as well;
# - *small actions*: a weight that is wrong by $\delta$ shows as a wrong angle $\delta\cdot X$. For
#   small actions the loss leads back from far away; where they reach half a turn, valleys lie
#   close. `largest=2.0` is the default;
# - a *faster representation*: its few numbers learn at 30 times the rate of the networks, and
#   settle before the encoder has adapted to wrong ones.
#
# After training, look at the weights: integers within a thousandth or so are right, fractions are
# not.
#
# ## Next
#
# - The same from the command line: `manifold-ae train hae --data sprites --world size=16 --traces
#   3000 --out runs/sprites`.
# - More factors: `--world factors=x,y,hue`.
# - [Rotations of a solid](03_pose.py), whose order matters.
# - [Traces of your own](../guide/your_traces.md).
