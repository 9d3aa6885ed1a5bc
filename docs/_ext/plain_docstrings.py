"""Docstrings write \\|x\\| for a norm and (n, \\*shape) for a shape, as mathematics and Python do.

reStructuredText would read a substitution and the start of an emphasis; so both signs are escaped,
outside literals, before it sees them.
"""

import re
from typing import Any

from sphinx.application import Sphinx

LITERAL = re.compile(r"(``.*?``|`[^`]+`)")
SIGN = re.compile(r"(?<!\\)(\||\*(?=\w+[,)]))")


def escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    for k, line in enumerate(lines):
        parts = LITERAL.split(line)
        lines[k] = "".join(
            part if LITERAL.fullmatch(part) else SIGN.sub(r"\\\1", part) for part in parts
        )


def setup(app: Sphinx) -> dict[str, Any]:
    # Before napoleon, which rewrites the sections.
    app.connect("autodoc-process-docstring", escape, priority=400)
    return {"version": "1", "parallel_read_safe": True}
