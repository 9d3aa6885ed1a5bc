"""Pictures that are there already, side by side."""

from collections.abc import Sequence
from os import PathLike

from matplotlib.figure import Figure
from matplotlib.image import imread

from manifold_ae.plots.style import Sheet, panel_title

__all__ = ["panels"]

#: Height of a panel, width between panels, and room for its title, in inches.
HEIGHT, GAP, HEAD = 4.2, 0.25, 0.3


def panels(
    pictures: Sequence[tuple[str | PathLike[str], str]],
    *,
    columns: int = 2,
    title: str = "",
) -> Figure:
    """PNG files as panels of one height, in rows, each under its own title.

    Arguments:
        pictures: paths and titles.
        columns: panels in a row.

    Raises:
        ValueError: if there are no pictures.
    """
    if not pictures:
        raise ValueError("pictures is empty: there is nothing to draw")
    images = [(imread(str(path)), name) for path, name in pictures]
    rows = [images[k : k + columns] for k in range(0, len(images), columns)]
    widths = [[HEIGHT * image.shape[1] / image.shape[0] for image, _ in row] for row in rows]
    width = max(sum(row) + GAP * (len(row) - 1) for row in widths)
    sheet = Sheet(width, (HEIGHT + HEAD) * len(rows) + GAP * (len(rows) - 1), title)
    for k, (row, sizes) in enumerate(zip(rows, widths, strict=True)):
        left = 0.0
        for (image, name), size in zip(row, sizes, strict=True):
            axes = sheet.axes(left, k * (HEIGHT + HEAD + GAP) + HEAD, size, HEIGHT)
            axes.imshow(image, interpolation="antialiased", aspect="auto")
            axes.set_axis_off()
            panel_title(axes, name)
            left += size + GAP
    return sheet.figure
