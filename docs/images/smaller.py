"""A picture of a run, made small enough for the documentation.

    python docs/images/smaller.py SOURCE.png TARGET.png [--width 1300] [--colours 256]

Where lines are few, a palette of 256 colours saves two thirds.
"""

import argparse
from pathlib import Path

from PIL import Image


def smaller(picture: Image.Image, width: int, colours: int | None) -> Image.Image:
    """The picture at that width, or at its own if that is less; of few colours, where asked."""
    picture = picture.convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture if colours is None else picture.quantize(colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--width", type=int, default=1300, help="in pixels; never enlarged")
    parser.add_argument("--colours", type=int, help="of a palette; all of them by default")
    arguments = parser.parse_args()
    with Image.open(arguments.source) as picture:
        found = smaller(picture, arguments.width, arguments.colours)
    found.save(arguments.target, optimize=True)
    print(f"{arguments.target}: {found.width} × {found.height}")


if __name__ == "__main__":
    main()
