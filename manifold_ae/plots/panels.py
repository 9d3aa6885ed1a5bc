"""Pictures that are there already, side by side."""

from collections.abc import Sequence
from os import PathLike

from matplotlib.figure import Figure
from matplotlib.image import imread

from manifold_ae.plots.style import Sheet, panel_title

__all__ = ["panels"]

#: Height of the tallest panel, room between panels, and for a title, in inches.
HEIGHT, GAP, HEAD = 4.2, 0.25, 0.3


def panels(
    pictures: Sequence[tuple[str | PathLike[str], str]],
    *,
    columns: int = 2,
    title: str = "",
) -> Figure:
    """PNG files as panels of one scale, so that letters are of one size, in rows.

    Arguments:
        pictures: paths and titles; of a panel that has its own, "".
        columns: panels in a row.

    Raises:
        ValueError: if there are no pictures.
    """
    if not pictures:
        raise ValueError("pictures is empty: there is nothing to draw")
    images = [(imread(str(path)), name) for path, name in pictures]
    inch = max(image.shape[0] for image, _ in images) / HEIGHT
    rows = [images[k : k + columns] for k in range(0, len(images), columns)]
    heads = [HEAD if any(name for _, name in row) else 0.0 for row in rows]
    heights = [max(image.shape[0] for image, _ in row) / inch for row in rows]
    widths = [sum(image.shape[1] for image, _ in row) / inch + GAP * (len(row) - 1) for row in rows]
    sheet = Sheet(max(widths), sum(heads) + sum(heights) + GAP * (len(rows) - 1), title)
    top = 0.0
    for row, head, height in zip(rows, heads, heights, strict=True):
        left = 0.0
        for image, name in row:
            tall, wide = image.shape[0] / inch, image.shape[1] / inch
            axes = sheet.axes(left, top + head, wide, tall)
            axes.imshow(image, interpolation="antialiased", aspect="auto")
            axes.set_axis_off()
            if name:
                panel_title(axes, name)
            left += wide + GAP
        top += head + height + GAP
    return sheet.figure
