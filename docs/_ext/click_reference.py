"""The directive ``click-reference``: the help of every command, asked of click at build time.

```{click-reference} manifold_ae.cli:main
:prog: manifold-ae
```
"""

import importlib
from collections.abc import Iterator
from typing import Any, ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx

WIDTH = 88


def walk(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Path and help of a command, and of all below it."""
    context = command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from walk(found, below, context)


class ClickReference(Directive):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"prog": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].partition(":")
        command = getattr(importlib.import_module(module), name)
        sections: list[nodes.Node] = []
        for path, text in walk(command, self.options["prog"]):
            section = nodes.section(ids=[nodes.make_id(path)])
            section += nodes.title("", "", nodes.literal("", path))
            section += nodes.literal_block(text, text, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("click-reference", ClickReference)
    return {"version": "1", "parallel_read_safe": True}
