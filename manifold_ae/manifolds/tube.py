r"""Volume and uniform samples of a compact submanifold M of ℝᴰ, from its closest-point projection.

Below the reach of M, every y within a distance ρ of it is x + n for one x in M and one normal n
there, and dy = det(I − A_n) dn dx, with A_n the shape operator (Weyl's tube formula). On the
tangent space DP(y) = (I − A_n)⁻¹. So, for any density φ on the normal balls of radius ρ,

    ∫ φ(y − P(y)) det(DP(y)|_T) g(P(y)) dy = ∫_M g(x) dx,                                     (1)

exactly: with g = 1 the volume. Here φ is the normal density of variance σ², truncated, and the
left side is estimated by importance sampling from q, a mixture of normal laws of the same variance
around anchors scattered over M: the weights

    w = φ(y − P(y)) det(DP(y)|_T) / q(y)                                                      (2)

vary by no more than the density of the anchors does. The volume is their mean; x = P(y), kept with
probability w / max w, is uniform. The anchors are themselves drawn by these weights, in rounds.

The reach is probed, on random normals: ρ is a part of the largest radius at which P(x + n) = x for
all of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.manifolds.derivatives import Map, jacobian, value_and_jacobian

__all__ = ["Tube", "probe_reach", "scattered"]

#: Anchors of the mixture, weights that the volume is the mean of, rounds in which anchors spread.
ANCHORS, SAMPLES, ROUNDS = 4096, 32768, 6
#: Of the probed reach, the part that is used: what it leaves covers normals that were not probed.
PART = 0.6
#: A share of the samples below which a few weights decide the volume.
EFFECTIVE = 0.2


def scattered(project: Map, n: int, dim: int, like: Tensor, seed: int = 0) -> tuple[Tensor, float]:
    """Points of M, flat ``(n, dim)``, far from uniform, and the radius of a ball that holds them.

    They are projections of normal vectors, of a spread that grows until the points fill it.

    Raises:
        ValueError: if the points grow with the spread: M is not bounded.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, dim, generator=generator, dtype=torch.float64).to(like)
    x = project(noise)
    radius = x.norm(dim=-1).max().item()
    for _ in range(12):
        wide = project(2 * radius * noise)
        grown = wide.norm(dim=-1).max().item()
        if grown <= 1.5 * radius:
            # Far points land on the outer parts of M, near ones on the inner.
            third = n // 3
            middle = project(0.5 * radius * noise[third : 2 * third])
            return torch.cat([x[:third], middle, wide[2 * third :]]), max(radius, grown)
        x, radius = wide, grown
    raise ValueError(
        f"its points reach as far as {radius:.3g} from the origin, and farther the farther one "
        "looks: it is not bounded, and no volume can be estimated; pass volume=math.inf"
    )


def probe_reach(project: Map, x: Tensor, radius: float, seed: int = 1) -> float:
    """Largest radius ρ, from a sequence with ratio 0.9, with P(x + ρn) = x for random normals n.

    Zero if there is none above 1e-4 of the radius of M.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    normal = noise - (jacobian(project, x) @ noise.unsqueeze(-1)).squeeze(-1)
    normal = normal / normal.norm(dim=-1, keepdim=True)

    def holds(rho: float, rows: slice) -> bool:
        try:
            back = project(x[rows] + rho * normal[rows])
        except RuntimeError:  # a level set's closest point is not found from so far
            return False
        return bool(((back - x[rows]).norm(dim=-1) <= 1e-3 * rho).all())

    rho = 2 * radius
    while rho > 1e-4 * radius:
        # A few points rule most radii out.
        if holds(rho, slice(64)) and holds(rho, slice(None)):
            return rho
        rho *= 0.9
    return 0.0


@dataclass(frozen=True, eq=False)
class Tube:
    """The sampler (2): anchors ``(J, D)``, spread σ, radius ρ < reach, and what was found with it.

    ``bound`` is the largest weight met; where a later one exceeds it, uniform samples are too few
    by its excess, which a share of at most about 1/SAMPLES of the volume is concerned by.
    """

    project: Map
    dim: int
    anchors: Tensor
    sigma: float
    rho: float
    volume: float = math.nan
    error: float = math.nan
    bound: float = math.nan

    @staticmethod
    def of(project: Map, dim: int, ambient: int, like: Tensor) -> "Tube":
        """Built from nothing but P; with a fixed seed.

        Raises:
            ValueError: if M is not bounded, not smooth, or too thin for the sampler.
        """
        with torch.no_grad():
            return Tube._build(project, dim, ambient, like)

    @staticmethod
    def _build(project: Map, dim: int, ambient: int, like: Tensor) -> "Tube":
        seeds, radius = scattered(project, 1024, ambient, like)
        reach = probe_reach(project, seeds, radius)
        if reach == 0:
            raise ValueError(
                "no radius was found at which P(x + n) = x for normals n: the projection is not "
                "the closest point, or the set is not smooth; M.check() says which"
            )
        generator = torch.Generator().manual_seed(2)
        rho = PART * reach
        tube = Tube(project, dim, seeds, rho / (math.sqrt(ambient - dim) + 2), rho)
        for round_ in range(ROUNDS):
            last = round_ == ROUNDS - 1
            x, weight = tube.propose(4 * (ANCHORS if last else len(seeds)), generator, like)
            kept = torch.multinomial(
                weight.cpu(), ANCHORS if last else len(seeds), generator=generator
            )
            tube = Tube(project, dim, x[kept.to(x.device)], tube.sigma, rho)
        _, weight = tube.propose(SAMPLES, generator, like)
        effective = (weight.sum() ** 2 / (weight**2).sum()).item() / SAMPLES
        if effective < EFFECTIVE:
            raise ValueError(
                f"its reach is only about {reach:.3g} in a ball of radius {radius:.3g}: "
                f"{ANCHORS} anchors do not cover it (effective share of the samples "
                f"{effective:.2f}); give volume= and sample="
            )
        volume, error = weight.mean().item(), weight.std().item() / math.sqrt(SAMPLES)
        return Tube(project, dim, tube.anchors, tube.sigma, rho, volume, error, weight.max().item())

    def propose(
        self, n: int, generator: torch.Generator | None, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """n points P(y), flat ``(n, D)``, and their weights (2), on the device of ``like``."""
        device = like.device if generator is None else generator.device
        anchors = self.anchors.to(like)
        index = torch.randint(len(anchors), (n,), generator=generator, device=device)
        noise = torch.randn(
            n, anchors.shape[-1], generator=generator, device=device, dtype=like.dtype
        )
        y = anchors[index.to(like.device)] + self.sigma * noise.to(like)
        x, slopes = value_and_jacobian(self.project, y)
        within = (y - x).norm(dim=-1) <= self.rho
        weight = self._log_weight(y, x, slopes).exp()
        return x, torch.where(within, weight, 0.0)

    def _log_weight(self, y: Tensor, x: Tensor, slopes: Tensor) -> Tensor:
        codim = y.shape[-1] - self.dim
        # DP(y) vanishes on the normals: its other eigenvalues are those on the tangent space.
        eigenvalues = torch.linalg.eigvalsh((slopes + slopes.mT) / 2)[:, codim:]
        log_det = eigenvalues.clamp_min(torch.finfo(y.dtype).tiny).log().sum(-1)
        variance = self.sigma**2
        inside = torch.special.gammainc(
            y.new_tensor(codim / 2), y.new_tensor(self.rho**2 / (2 * variance))
        )
        log_phi = -(y - x).square().sum(-1) / (2 * variance) - inside.log()
        # The factors (2πσ²)^{-k/2} of φ and (2πσ²)^{-D/2} of q leave one of dimension d.
        log_scale = self.dim / 2 * math.log(2 * math.pi * variance) + math.log(len(self.anchors))
        return log_phi + log_det - self._log_mixture(y) + log_scale

    def _log_mixture(self, y: Tensor) -> Tensor:
        """log Σ_j exp(−|y − x_j|²/2σ²)."""
        anchors = self.anchors.to(y)
        middle = anchors.mean(0)
        y, anchors = (y - middle) / self.sigma, ((anchors - middle) / self.sigma)
        offset = -0.5 * anchors.square().sum(-1)
        # In place, and without logsumexp: y lies within a few σ of the anchor that it was drawn at.
        parts = [
            torch.addmm(offset, part, anchors.mT)
            .sub_(0.5 * part.square().sum(-1, keepdim=True))
            .exp_()
            .sum(-1)
            for part in y.split(max(1, 2**20 // len(anchors)))
        ]
        return torch.cat(parts).log()

    def sample(self, n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """n uniform points, flat ``(n, D)``, by rejection."""
        points, missing = [], n
        while missing > 0:
            expected = missing * self.bound / self.volume
            x, weight = self.propose(int(1.2 * expected) + 16, generator, like)
            device = like.device if generator is None else generator.device
            chance = torch.rand(len(x), generator=generator, device=device, dtype=like.dtype)
            points.append(x[chance.to(like.device) * self.bound < weight][:missing])
            missing -= len(points[-1])
        return torch.cat(points) if points else like.new_empty(0, self.anchors.shape[-1])
