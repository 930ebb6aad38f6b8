"""Files in the formats of ESA and of Sen2Chain: rasters, product metadata, manifests."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio.windows import Window

from sen2chain.demo.scene import OFFSET_BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from sen2chain.demo.scene import Frame
    from sen2chain.products import ProductId

OFFSET = 1000
"""Offset of DNs from baseline 04.00 on; the metadata hold its negative."""
QUANTIFICATION = 10_000

Options = dict[str, Any]

# Edges in pixels of the tiles, code-blocks and precincts of ESA's products, by resolution in metres.
_TILES = {10: (1024, 64, 256), 20: (640, 8, 128), 60: (192, 4, 64)}
# The full image and four halvings, as ESA has them.
_RESOLUTIONS = 5
MOST_DN = 2**15 - 1
"""Largest DN of a band: ESA's bands have 15 bits."""

_JP2: Options = {"driver": "JP2OpenJPEG", "quality": "100", "reversible": "YES"}
_COG: Options = {"driver": "COG", "compress": "ZSTD", "predictor": "YES", "blocksize": "512", "overviews": "NONE"}
# As old archives have their indices: 15 bits, lossy; the no-data value goes to a side file.
_LEGACY: Options = {"driver": "JP2OpenJPEG", "quality": "20", "nbits": "15"}


def esa_jp2(
    frame: Frame, resolution: int, *, bits: int, packet_lengths: bool = True, tile_lengths: bool = False
) -> Options:
    """Creation options of a lossless JPEG 2000 file as ESA writes it.

    Tiles, code-blocks, precincts and the number of resolutions are those of ESA's products. GDAL makes no tile larger
    than the image, and images below 32 pixels have fewer resolutions. Progression (LRCP), the single
    layer and the single tile-part of a tile are GDAL's defaults and ESA's form.

    Parameters
    ----------
    frame
        Window of the raster.
    resolution
        Size of a pixel in metres: 10, 20 or 60.
    bits
        Bits of a sample: 15 in bands, 8 in SCL and CLDPRB.
    packet_lengths
        Whether each tile-part lists the lengths of its packets (markers PLT), as in ESA's files.
    tile_lengths
        Whether the main header lists the lengths of the tile-parts (marker TLM); ESA's files lack it. Needs GDAL 3.10
        or newer.
    """
    tile, code_block, precinct = _TILES[resolution]
    halvings = (frame.size * 10 // resolution).bit_length() - 1
    resolutions = min(_RESOLUTIONS, max(1, halvings))
    options = {
        **_JP2,
        "blockxsize": tile,
        "blockysize": tile,
        "codeblock_width": code_block,
        "codeblock_height": code_block,
        "precincts": ",".join([f"{{{precinct},{precinct}}}"] * resolutions),
        "resolutions": resolutions,
        "plt": "YES" if packet_lengths else "NO",
    }
    if bits % 8:
        options["nbits"] = bits
    return {**options, "tlm": "YES"} if tile_lengths else options


def cog() -> Options:
    """Creation options of a lossless cloud-optimised GeoTIFF."""
    return dict(_COG)


def plain_jp2() -> Options:
    """Creation options of a lossless JPEG 2000 file in GDAL's own form, as Sen2Chain writes masks."""
    return dict(_JP2)


def legacy() -> Options:
    """Creation options of a lossy index raster, as old archives hold them."""
    return dict(_LEGACY)


def write_raster(
    path: Path,
    frame: Frame,
    resolution: int,
    blocks: Iterable[np.ndarray[Any, Any]],
    options: Options,
    *,
    dtype: str = "uint16",
    nodata: int | None = None,
) -> None:
    """Write one band from blocks of full rows, from north to south.

    Both drivers can only copy finished rasters, so one band is held uncompressed: 241 MB for a full tile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width = frame.size * 10 // resolution
    profile = {
        **options,
        "width": width,
        "height": width,
        "count": 1,
        "dtype": dtype,
        "crs": f"EPSG:{frame.epsg}",
        "transform": frame.transform(resolution),
    }
    if nodata is not None:
        profile["nodata"] = nodata
    row = 0
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), rasterio.open(path, "w", **profile) as sink:
        for block in blocks:
            sink.write(block, 1, window=Window(0, row, width, len(block)))
            row += len(block)


@contextlib.contextmanager
def reading(paths: Mapping[str, Path]) -> Iterator[Mapping[str, Any]]:
    """Open several rasters for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"))
        yield {name: stack.enter_context(rasterio.open(path)) for name, path in paths.items()}


def truncate(path: Path, share: float = 0.4) -> None:
    """Truncate a file to a share of its size, like an interrupted download."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def metadata(product: ProductId, shares: Mapping[int, float]) -> str:
    """Text of ``MTD_MSIL2A.xml``: product names, radiometry, and the percentages of the scene classes.

    Parameters
    ----------
    product
        The product.
    shares
        Share of each scene class: of all pixels for class 0, of the pixels with data for the others.
    """
    percent = {code: f"{100 * share:.6f}" for code, share in shares.items()}
    clouds = f"{100 * sum(shares.get(code, 0.0) for code in (8, 9, 10)):.6f}"
    offsets = ""
    if product.baseline >= OFFSET_BASELINE:
        lines = "\n".join(f'        <BOA_ADD_OFFSET band_id="{k}">{-OFFSET}</BOA_ADD_OFFSET>' for k in range(13))
        offsets = f"\n      <BOA_ADD_OFFSET_VALUES_LIST>\n{lines}\n      </BOA_ADD_OFFSET_VALUES_LIST>"
    content = "\n".join(f"      <{tag}>{percent.get(code, '0.000000')}</{tag}>" for code, tag in _CONTENT.items())
    start = f"{product.sensing:%Y-%m-%dT%H:%M:%S}.024Z"
    baseline = f"{product.baseline // 100:02d}.{product.baseline % 100:02d}"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{start}</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>{start}</PRODUCT_STOP_TIME>
      <PRODUCT_URI>{product}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Datatake datatakeIdentifier="G{product.platform}_{product.sensing:%Y%m%dT%H%M%S}_000000_N{baseline}">
        <SPACECRAFT_NAME>Sentinel-{product.platform[1:]}</SPACECRAFT_NAME>
        <DATATAKE_SENSING_START>{start}</DATATAKE_SENSING_START>
        <SENSING_ORBIT_NUMBER>{product.orbit:03d}</SENSING_ORBIT_NUMBER>
        <SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
      </Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{QUANTIFICATION}</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>{offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info>
    <Cloud_Coverage_Assessment>{clouds}</Cloud_Coverage_Assessment>
    <Image_Content_QI>
{content}
    </Image_Content_QI>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
"""


def manifest(safe: Path, paths: Iterable[Path], baseline: int) -> str:
    """Text of ``manifest.safe``: the product's files with their sizes and checksums.

    Parameters
    ----------
    safe
        The product's folder.
    paths
        Its files.
    baseline
        Its processing baseline: ESA's checksums are MD5 in older products and SHA3-256 in newer ones.
    """
    name, algorithm = ("SHA3-256", "sha3_256") if baseline >= OFFSET_BASELINE else ("MD5", "md5")
    objects = []
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).hexdigest()
        kind = "text/xml" if path.suffix == ".xml" else "application/octet-stream"
        objects.append(f"""    <dataObject ID="{path.stem}">
      <byteStream mimeType="{kind}" size="{path.stat().st_size}">
        <fileLocation href="./{path.relative_to(safe).as_posix()}" locatorType="URL"/>
        <checksum checksumName="{name}">{digest}</checksum>
      </byteStream>
    </dataObject>""")
    content = "\n".join(objects)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1/sentinel-2/msi/archive_l2a_user_product">
  <dataObjectSection>
{content}
  </dataObjectSection>
</xfdu:XFDU>
"""


_CONTENT = {
    0: "NODATA_PIXEL_PERCENTAGE",
    1: "SATURATED_DEFECTIVE_PIXEL_PERCENTAGE",
    2: "DARK_FEATURES_PERCENTAGE",
    3: "CLOUD_SHADOW_PERCENTAGE",
    4: "VEGETATION_PERCENTAGE",
    5: "NOT_VEGETATED_PERCENTAGE",
    6: "WATER_PERCENTAGE",
    7: "UNCLASSIFIED_PERCENTAGE",
    8: "MEDIUM_PROBA_CLOUDS_PERCENTAGE",
    9: "HIGH_PROBA_CLOUDS_PERCENTAGE",
    10: "THIN_CIRRUS_PERCENTAGE",
    11: "SNOW_ICE_PERCENTAGE",
}
