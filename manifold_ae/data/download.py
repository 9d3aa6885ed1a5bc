"""Files fetched once, verified, and kept in a cache folder.

A file is written aside and verified there; it gets its name only when it has passed. So a file in
the cache is complete, whatever broke off, and however many processes fetched it at a time.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE_VARIABLE = "MANIFOLD_AE_CACHE"
TIMEOUT = 30.0


class DownloadError(OSError):
    """No mirror had the file. The message says what each answered and what to do instead."""


def cache_folder() -> Path:
    """Return the folder for downloaded files: `$MANIFOLD_AE_CACHE`, else the system's own place."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("manifold_ae"))


def fetch(
    filename: str,
    folder: str | os.PathLike[str],
    mirrors: Sequence[str],
    check: Callable[[Path], object],
    *,
    otherwise: str = "",
    timeout: float = TIMEOUT,
    progress: bool = True,
) -> Path:
    """Return the path of `filename` in `folder`, downloading it if it is not there.

    Arguments:
        filename: The name, here and on the mirrors.
        folder: Where to keep it; made if missing.
        mirrors: Base URLs, tried in turn.
        check: Called with the path of what was downloaded; raises a `ValueError` if that is not the
            file.
        otherwise: What the user may do if every mirror fails; the error ends with it.
        timeout: Seconds without an answer after which a mirror is given up.
        progress: Whether to draw a progress bar on stderr.

    Raises:
        DownloadError: If no mirror has the file, or none has one that passes the check. Nothing is
            left in the folder then.
    """
    import pooch

    target = Path(folder) / filename
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    download = pooch.HTTPDownloader(progressbar=progress, timeout=timeout, chunk_size=2**16)

    failures = []
    # beside the target, since a rename is atomic only within one file system
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as aside:
        for mirror in mirrors:
            url, part = f"{mirror.rstrip('/')}/{filename}", Path(aside) / filename
            try:
                download(url, str(part), None)
                check(part)
            except OSError as error:  # what requests raises is one
                failures.append(f"{url}: {_reason(error)}")
            except ValueError as error:
                failures.append(f"{url}: not the expected file ({error})")
            else:
                return part.replace(target)
    tried = "".join(f"\n  {line}" for line in failures) or "\n  (no mirrors were given)"
    raise DownloadError(f"{filename} could not be downloaded:{tried}\n{otherwise}".rstrip())


def _reason(error: Exception) -> str:
    """The innermost cause, where the libraries on the way have wrapped it several times."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return str(getattr(error, "reason", None) or error) or type(error).__name__
