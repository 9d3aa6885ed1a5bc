"""The training loop, for every model of this library.

It knows nothing of models but this: called with a batch and a mapping of weights, a model returns
named terms, of which ``loss`` has a gradient; its ``after_step``, if it has one, is called after
each step of the optimiser. It knows nothing of data but this: a source has a length (steps an
epoch) and ``epoch(k)`` yields the batches of epoch k, always the same ones.

A model may be several trained at once (``replicas.Replicas``): then it tells their number by
``members``, the terms have one value for each, ``begin_epoch(epoch, rank)`` is called where each
has to start its own random stream, and one that diverges does not stop the others.

An epoch's randomness is a function of (seed, epoch) alone, so a run that continues from a
checkpoint repeats, bit for bit on a CPU, what it would have done undisturbed.
"""

from manifold_ae.training.checkpoints import Checkpoint, write_aside, write_metrics
from manifold_ae.training.devices import make_fabric, make_optimizer
from manifold_ae.training.loop import Source, Stopping, fit
from manifold_ae.training.record import NonFiniteLossError
from manifold_ae.training.schedule import Schedule

__all__ = [
    "Checkpoint",
    "NonFiniteLossError",
    "Schedule",
    "Source",
    "Stopping",
    "fit",
    "make_fabric",
    "make_optimizer",
    "write_aside",
    "write_metrics",
]
