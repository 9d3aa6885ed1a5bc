"""``python -m manifold_ae``, the command line."""

from manifold_ae.cli import main

main(prog_name="manifold-ae")
