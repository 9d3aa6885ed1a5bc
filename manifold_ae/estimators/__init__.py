"""The ΔVAE by scikit-learn's conventions: ``fit``, ``transform``, ``score``; pipelines, searches.

    vae = DeltaVAE(manifold="circle", likelihood="poisson", output="angles", random_state=0)
    angles, radius = vae.fit(counts).transform(counts, return_uncertainty=True)
    search = GridSearchCV(vae, {"manifold": ["circle", "torus:2", "euclidean:2"]}).fit(counts)

What is trained, and how, is ``run``'s; here are the conventions, and units: ``score`` is a
log-likelihood of the data as given, not of the data once scaled, so that it stands beside that of
scikit-learn's ``PCA``, ``FactorAnalysis`` or ``GaussianMixture``.
"""

from manifold_ae.estimators.delta_vae import DeltaVAE

__all__ = ["DeltaVAE"]
