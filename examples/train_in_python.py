"""From a NumPy array to angles: a ΔVAE on the circle, with a training loop of one's own."""

import numpy as np
import torch

import manifold_ae as mae

# 2,000 recordings of 20 cells, each tuned to one hidden direction.
rng = np.random.default_rng(0)
hidden = rng.uniform(-np.pi, np.pi, 2000)
recordings = np.cos(hidden[:, None] - np.linspace(-np.pi, np.pi, 20, endpoint=False))
recordings += 0.1 * rng.standard_normal(recordings.shape)

torch.manual_seed(0)
x = torch.as_tensor(recordings, dtype=torch.float32)
circle = mae.manifolds.parse("circle")
vae = mae.models.DeltaVAE(circle, mae.nn.MLP(20, (128, 128)), mae.nn.MLP(2, (128, 128)))
adam = torch.optim.Adam(vae.parameters(), lr=1e-3)
for step in range(1000):
    terms = vae.loss(x[torch.randint(len(x), (128,))], kl_weight=min(1.0, step / 500))
    adam.zero_grad()
    terms["loss"].backward()
    adam.step()

angles = circle.to_angles(vae.posterior(x).loc)[:, 0].detach().numpy()
both = np.stack([angles - hidden, angles + hidden])  # the circle has no preferred orientation
print("agreement with the hidden angle:", abs(np.exp(1j * both).mean(1)).max())
