"""Data: sets that have a name, a user's own arrays, their scaling, and the batches made of them.

    data = load("digits")                                  # or "mnist", "torus", "PATH.csv"
    scaling = Scaling.fit("range", data.train, data.value_range)
    batches = Shuffled(scaling.apply(data.train), batch_size=128, seed=0)
    for x in batches.epoch(0): ...

A new data set is a file beside this one, with a function under `register`, and its line below.
"""

from . import worlds
from .arrays import check_counts, open_array, read_array
from .base import Dataset, is_named, load, names, options, register, takes_folder
from .batches import Fresh, Repeated, Shuffled, Together
from .columns import Columns
from .diffusion import diffusion_traces
from .digits import load_digits
from .download import DownloadError
from .files import load_file, read
from .given import batch_of, check_given, check_times, rows_of
from .holdouts import hold_out_actions, hold_out_combinations, in_cells, split_random
from .idx import read_idx
from .mnist import load_mnist
from .points import load_mixture, load_moons, load_s_curve, mixture_parameters
from .populations import Simulation, simulate
from .poses import load_poses
from .recordings import Beside, Recording, as_recording, from_array
from .scaling import Scaling
from .splits import split_rows
from .torus import PeriodicPicture, load_torus
from .trace_files import load_traces
from .traces import Traces
from .windows import Windows, elapsed_times, in_order

__all__ = [
    "Beside",
    "Columns",
    "Dataset",
    "DownloadError",
    "Fresh",
    "PeriodicPicture",
    "Recording",
    "Repeated",
    "Scaling",
    "Shuffled",
    "Simulation",
    "Together",
    "Traces",
    "Windows",
    "as_recording",
    "batch_of",
    "check_counts",
    "check_given",
    "check_times",
    "diffusion_traces",
    "elapsed_times",
    "from_array",
    "hold_out_actions",
    "hold_out_combinations",
    "in_cells",
    "in_order",
    "is_named",
    "load",
    "load_digits",
    "load_file",
    "load_mixture",
    "load_mnist",
    "load_moons",
    "load_poses",
    "load_s_curve",
    "load_torus",
    "load_traces",
    "mixture_parameters",
    "names",
    "open_array",
    "options",
    "read",
    "read_array",
    "read_idx",
    "register",
    "rows_of",
    "simulate",
    "split_random",
    "split_rows",
    "takes_folder",
    "worlds",
]
