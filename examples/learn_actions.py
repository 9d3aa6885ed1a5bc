"""What actions do, learned from pictures: a homomorphism autoencoder of two angles."""

from manifold_ae import plots, run
from manifold_ae.experiments import HAE

# 3,000 traces of a figure on a torus: a picture, an action, a picture, an action, a picture.
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

# One picture and 128 actions, and what is seen after them, without looking again.
long = trained.long_traces()
predicted = trained.rollout(long.observations[:, 0], long.actions)
steps = [1, 2, 4, 8, 16, 32, 64, 128]
rows = [[long.observations[k, steps], predicted[k][[t - 1 for t in steps]]] for k in (0, 1)]
plots.save(plots.strips(rows, ["true", "predicted"], columns=steps), "predicted.png")
error = (predicted - long.observations[:, 1:]).square().mean((0, 2, 3))
print("squared error a pixel after 1 and 128 steps:", *error[[0, -1]].tolist())
