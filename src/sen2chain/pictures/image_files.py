"""Files of images, JPEG or PNG by their suffix, with texts in a comment that say what they were made from."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from sen2chain.atomic import replacing, writing
from sen2chain.rasters import picture_texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from PIL import Image

_QUALITY = 88  # of a JPEG, with colours in full resolution


def write_image(image: Image.Image, path: Path, texts: Mapping[str, str]) -> None:
    """Write an image; its folder is created.

    Parameters
    ----------
    image
        The image.
    path
        The file: ``.png`` is a PNG, others are JPEG.
    texts
        Texts that `sen2chain.rasters.read_header_texts` returns of the file.

    Raises
    ------
    OutputError
        If the file cannot be written; what was there before stays then.
    """
    content, comment = io.BytesIO(), picture_texts.written(texts)
    if path.suffix.lower() == ".png":
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415  # optional library

        facts = PngInfo()
        facts.add_text(picture_texts.KEYWORD, comment.decode("ascii"))
        image.save(content, "PNG", pnginfo=facts)
    else:
        image.save(content, "JPEG", quality=_QUALITY, subsampling=0, comment=comment)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # It is encoded before, so that an error in this block is one of writing.
    with replacing(path) as file, writing(path):
        file.write(content.getbuffer())
