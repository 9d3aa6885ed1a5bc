"""The command line: ``manifold-ae``. Thin: it reads options and calls ``run``."""

from manifold_ae.cli.main import main

__all__ = ["main"]
