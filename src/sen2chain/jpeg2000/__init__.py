"""JPEG 2000 files: windows of their tiles, decoded by OpenJPEG without GDAL.

GDAL decodes a whole tile for every read. OpenJPEG itself decodes only the code-blocks that a window touches, and most
layers touch few of them. `openjpeg` finds the library and declares its functions.
"""
