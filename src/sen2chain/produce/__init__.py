"""Rasters and quicklooks made from acquisitions and written into the tree of a library.

`product_request` is what is wanted, `product_plan` what has to be made of it and why, `production` makes it. One pass
over an acquisition (`acquisition_rasters`) feeds all of its files; `cog_file` writes a raster, with `overviews`.
`conversion` makes lossless rasters of lossy ones.
"""

from __future__ import annotations

from sen2chain.produce.cog_file import CogFile, write_cog
from sen2chain.produce.conversion import convert_rasters
from sen2chain.produce.converted_files import Conversion, ConversionOutcome, ConversionSource, ConvertedFile
from sen2chain.produce.overviews import Overviews
from sen2chain.produce.product_file import FileKind, ProductFile, ProductOrder, State
from sen2chain.produce.product_lock import product_lock
from sen2chain.produce.product_plan import ProductPlan, plan_products
from sen2chain.produce.product_request import MaskFormat, ProductRequest
from sen2chain.produce.production import MadeFile, Outcome, Production, produce_files

__all__ = [
    "CogFile",
    "Conversion",
    "ConversionOutcome",
    "ConversionSource",
    "ConvertedFile",
    "FileKind",
    "MadeFile",
    "MaskFormat",
    "Outcome",
    "Overviews",
    "ProductFile",
    "ProductOrder",
    "ProductPlan",
    "ProductRequest",
    "Production",
    "State",
    "convert_rasters",
    "plan_products",
    "produce_files",
    "product_lock",
    "write_cog",
]
