"""Angles and their uncertainty by scikit-learn's conventions: a simulated ring of neurons.

python examples/with_scikit_learn.py
"""

from sklearn.model_selection import train_test_split

from manifold_ae import data
from manifold_ae.estimators import DeltaVAE

# 1,000 moments of 30 head-direction cells, some to train on, some unseen.
seen, unseen = train_test_split(data.simulate("ring", 1000).x.numpy(), random_state=0)

vae = DeltaVAE("circle", likelihood="poisson", output="angles", epochs=20, random_state=0)
angles, radius = vae.fit(seen).transform(unseen, return_uncertainty=True)
print("first angles and radii, in radians:", angles[:3, 0], radius[:3])
print("held-out log-likelihood, in nats, to choose manifolds by:", vae.score(unseen))
