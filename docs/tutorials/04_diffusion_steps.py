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
# # Diffusion: steps that are moves of a group
#
# A diffusion model makes data of noise in many small steps. Here each of them is a move that can be
# composed with others, replayed and undone; what a move is, and is not, decides what a learned
# representation can make of it. [The theory](../theory/diffusion_group.md) has the derivations.

# %%
# %matplotlib inline
import torch

from manifold_ae import data, diffusion, metrics, models, plots, run
from manifold_ae.diffusion import Schedule, exact, samplers
from manifold_ae.experiments import HAE
from manifold_ae.groups import Defining, ScaleTranslation

torch.set_num_threads(1)  # for networks this small, a second thread is not worth its waiting
generator = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# %% [markdown]
# ## A group, and what it acts on
#
# The moves are $x\mapsto sx+b$: scale by $s>0$, then shift by $b$. Two in a row are one of them
# again, there is one that does nothing, and each can be undone: a *group*. It *acts* on the plane
# if it makes no difference whether two moves are composed first, or points are moved twice:

# %%
G = ScaleTranslation(2)
g, h = torch.tensor([[2.0, 1.0, 0.0], [0.5, 0.0, 3.0]])  # scale, then the two shifts
x = torch.tensor([4.0, 5.0])
print("h, then g:      ", G.act(g, G.act(h, x)).tolist())
both = G.compose(g, h)
print("gh, composed:   ", both.tolist(), "moves x to", G.act(both, x).tolist())
print("undone:         ", G.act(G.inverse(g), G.act(g, x)).tolist())

# %% [markdown]
# The composed move has been found without looking at $x$. That is what a group is good for, and it
# has a price: a move has to be the same for all points.
#
# ## Adding noise
#
# A noising step shrinks the point a little and adds a little noise: $s=\sqrt{\alpha}$,
# $b=\sqrt{1-\alpha}\,\varepsilon$. With noise drawn, it is a move like any other. Here are 1,000 of
# them, on eight clusters:

# %%
means, variances = data.mixture_parameters()
points = data.load("mixture").train[:1000].double()
schedule = Schedule.linear(1000)
noising = samplers.vp_chain(schedule, points, generator=generator)
shown = [0, 50, 200, 1000]
plots.clouds(
    [noising.states[:, k] for k in shown],
    [f"after {k} steps" for k in shown],
    title="Noise is added",
)

# %% [markdown]
# The chain remembers its elements, 1,000 for each point. They compose to one, and undo what they
# did:

# %%
print("a thousand moves:", tuple(noising.elements.shape), "composed:", tuple(noising.element.shape))
once = G.act(noising.element, points)
back = diffusion.replay(noising.inverse().elements, noising.end)[:, -1]
print(f"one move against a thousand: {(once - noising.end).abs().max():.0e}")
print(f"there and back:              {(back - points).abs().max():.0e}")

# %% [markdown]
# Without the record there is no way back: *laws* of noise, $\varepsilon$ not yet drawn, compose
# too, and their variances add up, whatever comes next. All thousand laws are one, and what is left
# of the data in it is a factor $\sqrt{\bar\alpha_T}$:

# %%
law = diffusion.GaussianAffineLaw.identity(2, torch.float64)
for t in range(1, 1001):
    law = diffusion.GaussianAffineLaw.vp(schedule, t, 2) @ law
print(f"scale {law.scale.item():.5f}, variance {law.variance.item():.7f}")

# %% [markdown]
# ## Taking noise away
#
# To denoise, somebody has to predict the noise $\hat\varepsilon$ in a point. For eight Gaussians
# the best prediction has a closed form; usually it is a network. A DDIM step has the scale
# $s=1/\sqrt\alpha$ and a shift along $\hat\varepsilon$. Fifty of them, from pure noise:

# %%
denoiser = exact.mixture(means, variances, schedule)
start = normal(1000, 2)
chain = samplers.ddim_chain(denoiser, schedule, start, schedule.times(50))
towards = torch.atan2(chain.end[:, 1], chain.end[:, 0])
shown = [0, 40, 45, 50]
plots.clouds(
    [chain.states[:, k] for k in shown],
    [f"t = {chain.times[k]}" for k in shown],
    labels=towards,
    title="Noise is removed, coloured by where points end",
)

# %% [markdown]
# Each point's chain is one move, again exactly. But this move was made *for this point*: the noise
# was predicted where the point was. On its neighbours it does something else, for its scale is that
# of every chain, $1/\sqrt{\bar\alpha_T}$:

# %%
near = start[:1] + 0.05 * normal(200, 2)
borrowed = G.act(chain.element[0], near)
own = samplers.ddim(denoiser, schedule, near, schedule.times(50))
print(f"scale of all chains: {chain.element[:, 0].min():.1f} to {chain.element[:, 0].max():.1f}")
for name, ends in (("own chains", own), ("the move of one", borrowed)):
    print(f"neighbours by {name:>15}: standard deviation {ends.std(0).norm():.3f}")

# %% [markdown]
# What would be right for neighbours, to first order, is a move with a matrix in place of a scale.
# The chain rule composes those as well (`ddim_first_order`):

# %%
affine = diffusion.ddim_first_order(denoiser, schedule, start[:1], schedule.times(50))
tiny = start[:1] + 0.001 * normal(200, 2)
true = samplers.ddim(denoiser, schedule, tiny, schedule.times(50))
right = tiny @ affine[0, :2, :2].T + affine[0, :2, 2]
spread, error = true.std(0).norm(), (right - true).std(0).norm()
print(f"very near, own chains: standard deviation {spread:.1e}, error to first order {error:.1e}")

# %% [markdown]
# ## When a whole chain is one move for all
#
# If the data are Gaussian, the best prediction is affine in $x$. Then one move, with a scale for
# each axis, does what all chains do:

# %%
m, axes = [1.0, -0.5], [0.25, 2.0]
times = schedule.times(50)
one = diffusion.gaussian_chain(schedule, times, m, axes)
ends = samplers.ddim(exact.gaussian(m, axes, schedule), schedule, start, times)
print("one move:", [round(v, 4) for v in one.tolist()])
error = ScaleTranslation(2, diagonal=True).act(one, start) - ends
print(f"against 1,000 chains of fifty steps: {error.abs().max():.0e}")

# %% [markdown]
# ## A matrix that is no group action
#
# The denoising step has also been written as a matrix made of the state that it acts on,
# $\operatorname{diag}(\mu_i/x_i)$. It reaches the right point. Three lines show what it is not:

# %%
x, mean, noise = torch.tensor([[0.5, 0.5], [0.25, 0.5], [1.0, 1.0]]).double()
M = diffusion.published_denoising_matrix(x, mean, 0.8, noise)
entry, later = M.max(), M.matrix_power(8).max()
print(f"largest entry {entry:.2f}, of its eighth power {later:.2f}")

# %%
try:
    diffusion.published_denoising_matrix(torch.tensor([0.0, 0.5]).double(), mean, 0.8, noise)
except ValueError as error:
    print(error)

# %% [markdown]
# Its entries are bounded, those of its powers are not, so that there is no such group; it does not
# exist where a coordinate is 0; and it is another matrix for every point.
#
# ## Finding the moves in pictures
#
# Now nobody tells what a move does. A homomorphism autoencoder sees a picture, the coordinates of a
# noising step as an action, the next picture, and so on. The picture is a blob at the point:

# %%
config = HAE(
    data="diffusion",
    traces=6000,
    steps=3,
    encoder_hidden=(128, 128),
    decoder_hidden=(128, 128),
    epochs=8,
    restarts=1,
    lr=3e-3,
    horizon=50,
)
trained = run.train(config)
long = trained.long_traces()
predicted = trained.rollout(long.observations[:, 0], long.actions)
columns = [5, 10, 20, 30, 40, 50]
rows = [[long.observations[k, columns], predicted[k][[t - 1 for t in columns]]] for k in range(3)]
title = "Fifty noising steps, predicted from one picture"
plots.strips(rows, ["true", "predicted"], columns=columns, title=title)

# %% [markdown]
# Training has seen three steps in a row. That fifty work is the law $\rho(gh)=\rho(g)\rho(h)$: one
# action, the logarithm of all fifty moves composed, predicts the last picture as well.

# %%
composed = G.log(diffusion.compose(G.exp(long.actions.double()))).float()
at_once = trained.rollout(long.observations[:, 0], composed[:, None])[:, -1]
first, last = long.observations[:, 0], long.observations[:, -1]
guesses = {"fifty actions": predicted[:, -1], "one action": at_once, "nothing moved": first}
for name, guess in guesses.items():
    print(f"{name:>14}: squared error a pixel {(guess - last).square().mean():.1e}")

# %% [markdown]
# And the matrices are, in another basis, $\begin{pmatrix}sI&b\\0&1\end{pmatrix}$, which nobody has
# told it:

# %%
rho, truth = trained.model.representation, Defining(G)
steps = long.actions.flatten(0, 1)
with torch.no_grad():
    aligned = metrics.align_matrices(rho(steps), truth(steps))
print(f"residual {aligned.residual:.1g}, condition {aligned.condition:.2f}")
basis, step = aligned.matrix.float(), long.actions[0, -1]
with torch.no_grad():
    found = torch.linalg.inv(basis) @ rho(step) @ basis
for name, matrix in {"found": found, "true": truth(step)}.items():
    print(f"the last step, as {name}:", [[round(v, 3) for v in row] for row in matrix.tolist()])

# %% [markdown]
# ## One move in place of fifty
#
# One fixed move takes a Gaussian to a Gaussian, never to eight clusters. The move that a chain
# composes to depends on where it starts, and this dependence can be learned: from starts, and the
# ends of their chains. Many moves lead from a start to its end, one for each scale. A chain's own
# scale is the worst to learn with, as an error in the shift comes out enlarged; scale 1 is a good
# one.

# %%
torch.manual_seed(0)
hidden = [torch.nn.Linear(2, 64), torch.nn.SiLU()]
for _ in range(2):
    hidden += [torch.nn.Linear(64, 64), torch.nn.SiLU()]
model = models.ElementStep(torch.nn.Sequential(*hidden, torch.nn.Linear(64, 2)), 2, scale=1.0)
adam = torch.optim.Adam(model.parameters(), lr=5e-3)
course = torch.optim.lr_scheduler.OneCycleLR(adam, 5e-3, total_steps=1500)
for _ in range(1500):
    k = torch.randint(len(start), (128,))
    loss = model.loss(start[k].float(), chain.end[k].float())["loss"]
    adam.zero_grad()
    loss.backward()
    adam.step()
    course.step()

# %%
fresh = normal(1000, 2)
calls = schedule.times
made = {
    "50 calls": samplers.ddim(denoiser, schedule, fresh, calls(50)),
    "5 calls": samplers.ddim(denoiser, schedule, fresh, calls(5)),
    "1 call": samplers.ddim(denoiser, schedule, fresh, calls(1)),
    "1 move, learned": model(fresh.float()).detach().double(),
}
plots.clouds(list(made.values()), list(made), title="Samples of eight Gaussians")

# %%
test = data.load("mixture").test.double()
for name, samples in made.items():
    same = torch.Generator().manual_seed(0)
    quality = metrics.sample_quality(samples, test[:2000], generator=same)
    print(f"{name:>16}: distance {quality.distance:.3f}, of data to data {quality.floor:.3f}")

# %% [markdown]
# The clusters are there, with bridges between them: neighbours that end in different clusters are
# parted more sharply than the network does. Of 1,000 points this distance does not see that.
#
# Is it the group that makes one move do? [Measured](../results/diffusion.md), it is not: a network
# that returns the end itself does as well. What the group gives are exact compositions, inverses,
# and a representation that holds for chains never seen; not better samples.
#
# ## Next
#
# - From the command line: `manifold-ae train hae --data diffusion`, and `manifold-ae train
#   diffusion --data mixture` for a denoiser that is a network.
# - [The theory](../theory/diffusion_group.md), from what an action is to what a chain is not.
# - Traces of your own process: `data.diffusion_traces`.
