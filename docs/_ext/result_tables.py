"""The directive ``result``: a measurement kept as JSON beside the page, as tables.

    ```{result} step.json
    :command: python tests/benchmarks/step.py --output docs/results/step.json
    ```

An object of objects, or a list of them, becomes a table; ``{"mean": m, "sd": s}`` a value m ± s;
other objects a table of their values, and then what is below them. A file that is not there yet is
said to be missing, or with ``:optional:`` left out. A key ``command`` in the file takes the place
of the option; ``runs`` is not shown.
"""

import json
import math
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def is_value(x: Any) -> bool:
    if isinstance(x, dict):
        return set(x) == {"mean", "sd"}
    return not (isinstance(x, list) and any(isinstance(item, dict) for item in x))


def text(value: Any) -> str:
    if isinstance(value, dict):
        mean, sd = value["mean"], value["sd"]
        if mean is None or math.isnan(mean):
            return "–"
        return text(mean) if sd is None or math.isnan(sd) else f"{text(mean)} ± {sd:.2g}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:.2f}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return "–" if value is None else str(value)


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of a row and of the objects in it; lists of objects stay in the file."""
    cells: dict[str, str] = {}
    for key, value in row.items():
        if is_value(value):
            cells[f"{prefix}{key}".replace("_", " ")] = text(value)
        elif isinstance(value, dict):
            cells |= flat(value, f"{prefix}{key} ")
    return cells


def table(rows: list[dict[str, str]]) -> nodes.table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]

    def line(cells: list[str]) -> nodes.row:
        row = nodes.row()
        row += [nodes.entry("", nodes.paragraph("", cell)) for cell in cells]
        return row

    group += nodes.thead("", line(columns))
    group += nodes.tbody("", *(line([row.get(key, "–") for key in columns]) for row in rows))
    return nodes.table("", group)


def render(content: Any, name: str = "") -> list[nodes.Node]:
    title = [nodes.paragraph("", "", nodes.strong("", name.replace("_", " ")))] if name else []
    if isinstance(content, list):
        return [*title, table([flat(row) for row in content])]
    below = {key: value for key, value in content.items() if not is_value(value)}
    if content and len(below) == len(content) and name:
        return [*title, table([{"": key, **flat(row)} for key, row in below.items()])]
    values = {key: value for key, value in content.items() if key not in below}
    own = [table([flat(values)])] if values else []
    return [*title, *own, *(node for key, value in below.items() for node in render(value, key))]


class Result(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "command": directives.unchanged,
        "optional": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(path))
        if not path.exists() and "optional" in self.options:
            return []
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        command = content.pop("command", self.options.get("command", ""))
        content.pop("runs", None)  # one by one, for who wants to look
        shown: list[nodes.Node] = []
        if command:
            shown.append(nodes.literal_block(command, command, language="console"))
        if not content:
            shown.append(nodes.paragraph("", "", nodes.emphasis("", "Not measured yet.")))
        return shown + render(content)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("result", Result)
    return {"version": "1", "parallel_read_safe": True}
