"""What a run needs to go on, and files that are written aside and renamed."""

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Checkpoint", "write_aside", "write_metrics"]

#: Version of the checkpoint's layout; a reader refuses those that it does not know.
CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: parameters, optimiser, epochs done, and what was measured."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    extra: dict[str, Any]

    def save(self, path: Path) -> None:
        """Written aside and renamed, so that a kill at any moment leaves the old one or the new.

        Raises:
            OSError: if it cannot be written, as on a full disk; the old one is left then.
        """
        content = {"format": CHECKPOINT_FORMAT, **vars(self)}

        def write(temporary: Path) -> None:
            try:
                with temporary.open("wb") as file:
                    torch.save(content, file)
            except RuntimeError as error:
                # The archive cannot be closed when a write has failed, and torch tells of that.
                failed = error.__context__
                if not isinstance(failed, OSError):
                    raise
                raise OSError(
                    failed.errno,
                    f"{failed.strerror}; what was saved before is kept, and training goes on from "
                    "there once it can be written",
                    str(path),
                ) from error

        write_aside(path, write)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read without executing code (``weights_only``).

        Raises:
            ValueError: if the file is damaged, or of a format that this version does not know.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
        found = content.pop("format", None) if isinstance(content, dict) else None
        if found != CHECKPOINT_FORMAT:
            raise ValueError(
                f"{path} has checkpoint format {found!r}; this version reads {CHECKPOINT_FORMAT}"
            )
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"{path} is not a whole checkpoint: {error}") from error


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary neighbour of ``path``, then rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """A CSV row an epoch, written aside and renamed."""
    text = io.StringIO()
    if history:
        # Of trials that went on, the first rows may lack what came later.
        names = dict.fromkeys(name for row in history for name in row)
        writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    write_aside(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))
