"""The rows that stay on disk: a folder for each layer, with one file per image and a ledger of all images.

`extraction_folder` builds and parses the names in the folder, `images` writes and reads the rows of one image, `ledger`
keeps the state of all images, `kept_catalogue` that of kept pixels, whose files `pixel_folder` writes, `inputs` detects
changes of the files that images were made from, `lock` keeps two runs apart, `recognition` finds the folder of a layer
again, `resume` decides what is still to be extracted, and `contents` tells people what a folder holds.
"""

from __future__ import annotations

from sen2chain.store.contents import FolderContents, contents_of, is_layer_folder
from sen2chain.store.extraction_folder import COMPILED, ExtractionFolder, sweep
from sen2chain.store.images import RawImage, list_images, read_image, write_image
from sen2chain.store.kept_catalogue import HeldRaster, KeptCatalogue, KeptEntry
from sen2chain.store.ledger import CompiledFile, Entry, ImageLedger, State
from sen2chain.store.lock import file_lock, held_since, if_left, is_locked, locked
from sen2chain.store.pixel_folder import DroppedPixels, PixelFolder
from sen2chain.store.recognition import Recognised, make_folder, recognise, stored_layer
from sen2chain.store.resume import NEW, Work, what_is_new

__all__ = [
    "COMPILED",
    "NEW",
    "CompiledFile",
    "DroppedPixels",
    "Entry",
    "ExtractionFolder",
    "FolderContents",
    "HeldRaster",
    "ImageLedger",
    "KeptCatalogue",
    "KeptEntry",
    "PixelFolder",
    "RawImage",
    "Recognised",
    "State",
    "Work",
    "contents_of",
    "file_lock",
    "held_since",
    "if_left",
    "is_layer_folder",
    "is_locked",
    "list_images",
    "locked",
    "make_folder",
    "read_image",
    "recognise",
    "stored_layer",
    "sweep",
    "what_is_new",
    "write_image",
]
