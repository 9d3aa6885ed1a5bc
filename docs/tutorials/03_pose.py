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
# # A pose: rotations, whose order matters
#
# A solid is turned about in space. Each action is a rotation, and two rotations in the other order
# lead elsewhere: their matrices must not commute either. [As before](02_two_angles.py), a
# homomorphism autoencoder sees pictures and actions, and learns latents that are multiplied by
# $\rho(g)$. Here no action is larger than one radian; afterwards it is asked for whole turns.

# %%
# %matplotlib inline
import math

import torch

from manifold_ae import data, groups, manifolds, metrics, plots, run
from manifold_ae.experiments import HAE

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting

# %% [markdown]
# ## The solid
#
# Four coloured cubes, in a shape that no rotation maps to itself. Were there such a rotation, two
# poses would look the same, and no model could tell them apart. An action is a rotation vector, the
# axis times the angle.

# %%
options = {"size": 12, "cubes": 4}
world = data.worlds.load("solids", **options)
generator = torch.Generator().manual_seed(0)
few = world.traces(3, 8, generator=generator, largest=1.0)
plots.strips(
    list(few.observations), ["trace 1", "trace 2", "trace 3"], title="Eight small rotations"
)

# %% [markdown]
# ## Train
#
# Blocks of size 3, as the smallest representation of SO(3) that moves anything is that of vectors;
# three of them, since one vector leaves the rotation about itself open. With a linear $\varphi$
# the generators $T_1,T_2,T_3$ of the three axes are to be learned, 27 numbers. They have to satisfy
# $[T_1,T_2]=T_3$ and so on: what is missing is the penalty `bracket`. The frequency penalty, of use
# where weights may be mixed, is off.
#
# Each trace has six actions: small steps that lead far, so that a picture has to tell the whole
# pose, and not only what is seen after the next step. The weight of the prediction is lower than by
# default: a high one is easily served by latents that shrink.

# %%
config = HAE(
    data="solids",
    world=tuple(f"{name}={value}" for name, value in options.items()),
    traces=4000,
    steps=6,
    largest=1.0,
    blocks="3,3,3",
    frequency_weight=0.0,
    prediction_weight=0.02,
    encoder_hidden=(256, 256),
    decoder_hidden=(256, 256),
    batch_size=32,
    epochs=12,
    lr=2e-3,
    lr_schedule="one-cycle",
    restarts=2,
    restart_epochs=1,
)
trained = run.train(config)
model, rho = trained.model, trained.model.representation

# %% [markdown]
# ## Round the line of sight
#
# One picture is encoded, and its latent turned about the line of sight, the third axis, by angles
# that no action had. Above, what would be seen:

# %%
axis = torch.tensor([0.0, 0.0, 1.0])
amounts = torch.linspace(0, 2 * math.pi, 9)
start = world.random_states(3, generator=generator)
turned = world.render(world.move(start[:, None], amounts[:, None] * axis))
imagined = model.traverse(turned[:, 0], axis, amounts)
plots.strips(
    [[*pair] for pair in zip(turned, imagined, strict=True)],
    ["true", "predicted"],
    columns=["0", "π/4", "π/2", "3π/4", "π", "5π/4", "3π/2", "7π/4", "2π"],
    title="Turned about the line of sight, from the first picture",
)

# %% [markdown]
# A little soft, and right all the way round: colours of sides that the first picture does not show
# are known from other traces.
#
# ## Vectors
#
# Each block is the representation of vectors, in a basis of its own, which nothing determines. A
# change of basis $A$ takes all of it to three times that of the world. How well it does, on
# rotations of all sizes:

# %%
everywhere = groups.defects.random_actions(
    world.group, 500, generator=generator, dtype=torch.float32
)
with torch.no_grad():
    aligned = metrics.align_matrices(rho(everywhere), groups.Sum(*[world.truth] * 3)(everywhere))
print(f"residual {aligned.residual:.1g}, condition {aligned.condition:.3f}")

# %% [markdown]
# In that basis, the matrices that made the pictures above. The last is the first again:

# %%
A = aligned.matrix.float()
s = torch.linspace(0, 2 * math.pi, 97)
with torch.no_grad():
    path = torch.linalg.inv(A) @ rho(s[:, None] * axis) @ A
plots.representation_path(path, s, title="ρ of turns about the line of sight")

# %% [markdown]
# ## With a perceptron instead
#
# In [Keurti et al. (2023)](https://arxiv.org/abs/2207.12067) $\varphi$ is a perceptron, which no
# law binds (`HAE(phi="mlp")`). To compare the two, a perceptron gets the encoder as it is, and has
# only to learn how its latents are moved:

# %%
known = trained.traces().train
z = trained.encode(known.observations.flatten(0, 1)).unflatten(0, (len(known), -1))
torch.manual_seed(0)
perceptron = groups.LearnedRepresentation(world.group, blocks=[3, 3, 3], phi="mlp")
adam = torch.optim.Adam(perceptron.parameters(), lr=3e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 1000)
for _ in range(1000):
    k = torch.randint(len(z), (64,))
    gap = perceptron.rollout(known.actions[k], z[k, 0]) - z[k, 1:]
    loss = gap.square().sum(-1).mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    schedule.step()

# %% [markdown]
# Relative errors of the laws, over pairs of rotations from the whole group. The products of many
# pairs pass half a turn: then the rotation vector of $gh$ points the other way, and $\rho$ must not
# notice.

# %%
both = {"linear φ": rho, "perceptron φ": perceptron}
print(f"{'':>14}{'ρ(e) = I':>12}{'ρ(g)ρ(g⁻¹) = I':>18}{'ρ(gh) = ρ(g)ρ(h)':>20}")
for name, learned in both.items():
    found = metrics.homomorphism_defects(learned, generator=torch.Generator().manual_seed(0))
    print(f"{name:>14}{found.identity:>12.1g}{found.inverse:>18.1g}{found.homomorphism:>20.1g}")

# %% [markdown]
# The linear $\varphi$ has the first two by construction; the third it has learned, for rotations
# three times as large as any that it saw. The perceptron knows what it has seen. That tells in
# predictions, of rotations of all sizes, one after another:

# %%
long = world.traces(100, 64, generator=generator)
seen = trained.encode(long.observations.flatten(0, 1))
autoencoded = model.decode(seen).detach().unflatten(0, (100, -1))
first = seen.unflatten(0, (100, -1))[:, 0]
errors = {}
for name, learned in both.items():
    with torch.no_grad():
        predicted = model.decode(learned.rollout(long.actions, first))
    errors[name] = metrics.rollout_errors(predicted, long.observations, autoencoded)
scale = errors["linear φ"]
plots.rollout_errors(
    scale.horizons,
    {name: found.prediction for name, found in errors.items()}
    | {"copying": scale.copying, "autoencoding": scale.autoencoding},
    title="Rotations up to π, after training on rotations up to 1",
)

# %% [markdown]
# ## The pose of a picture
#
# Relative to a picture of reference, the pose of any other is the rotation that leads there.
# `infer_action` looks for it over the whole group. Its error in degrees:

# %%
reference = world.random_states(1, generator=generator)
poses = world.random_states(300, generator=generator)
X, _ = model.infer_action(world.render(reference), world.render(poses))
M = manifolds.SO3()
wrong = M.dist(world.group.compose(world.group.exp(X), reference), poses).rad2deg()
print(f"median {wrong.median():.0f}, nine of ten below {wrong.quantile(0.9):.0f}")
print(f"two poses at random: median {M.dist(poses, poses.roll(1, 0)).rad2deg().median():.0f}")

# %% [markdown]
# Where it is far off, look at the picture: from some sides the cubes hide each other.
#
# ## Next
#
# - From the command line: `manifold-ae train hae --data solids --blocks 3,3,3 --largest 1 --steps 6
#   --prediction-weight 0.02 --set frequency_weight=0`.
# - With the hue as a further angle, `--world hue=true`: the group is then SO(3) × SO(2).
# - [Traces of your own](../guide/your_traces.md).
