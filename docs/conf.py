"""How the documentation is built: ``sphinx-build -W -b html docs docs/_build/html``.

Tutorials are Python files in jupytext's percent format; they, and the code cells of the theory, are
executed by the build, and an error in one fails it. Nothing is fetched from the network.
"""

import os
import sys
from pathlib import Path

from manifold_ae import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# The notebooks' networks are small: a second thread gains little, and loses much on busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "manifold_ae"
author = "The manifold_ae developers"
copyright = "2026, The manifold_ae developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "click_reference",
    "plain_docstrings",
    "result_tables",
]
exclude_patterns = [
    "_build",
    "_ext",
    "conf.py",
    "images",
    "**/.ipynb_checkpoints",
    "jupyter_execute",
]

# ---- pages --------------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"

# ---- reference ----------------------------------------------------------------------------------

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_use_rtype = False
# Single backticks in docstrings are code.
default_role = "code"

# ---- look ---------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"manifold_ae {release}"
html_static_path: list[str] = []
