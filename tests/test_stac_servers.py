"""Rows from catalogues that real servers on this machine serve: see `stac_servers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio

from provider_layouts import LAYOUTS, Form, has_offset, items, product_files
from stac_servers import get

if TYPE_CHECKING:
    from pathlib import Path

    from provider_layouts import ProviderFiles
    from stac_servers import Api, FileServer, ObjectStore


def test_the_file_server_logs_ranges_and_checks_signatures(file_server: FileServer) -> None:
    (file_server.place / "digits").write_bytes(b"0123456789")
    with file_server.watched() as requests:
        assert get(file_server.href("digits")).data == b"0123456789"
        assert get(file_server.href("digits", "signed")).status == 403
        assert get(f"{file_server.href('digits', 'signed')}?{file_server.sign(-2)}").status == 403
        assert get(f"{file_server.href('digits', 'signed')}?{file_server.sign(30)}").status == 200
    assert [(request.path, request.status, request.range) for request in requests] == [
        ("digits", 200, ""),
        ("digits", 403, ""),
        ("digits", 403, ""),
        ("digits", 200, ""),
    ]
    with file_server.troubled("location /open/digits { return 503; }"):
        assert get(file_server.href("digits")).status == 503
    assert get(file_server.href("digits")).status == 200


def test_the_api_finds_items_that_were_loaded(stac_api: Api) -> None:
    item = {
        "id": "point",
        "type": "Feature",
        "stac_version": "1.0.0",
        "geometry": {"type": "Point", "coordinates": [9, 45]},
        "bbox": [9, 45, 9, 45],
        "properties": {"datetime": "2022-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }
    stac_api.load("points", [item])
    assert get(f"{stac_api.href}/search?collections=points&bbox=8,44,10,46").json()["features"][0]["id"] == "point"
    assert get(f"{stac_api.href}/search?collections=points&bbox=8,40,10,42").json()["features"] == []
    assert any(request.startswith("GET /search") for request in stac_api.requests())


def test_the_object_store_serves_what_was_uploaded(object_store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "digits").write_bytes(b"0123456789")
    object_store.upload("numbers", tmp_path, below="of/")
    assert get(f"{object_store.href}/numbers/of/digits").status == 403
    signed = object_store.client().generate_presigned_url("get_object", {"Bucket": "numbers", "Key": "of/digits"})
    assert get(signed).data == b"0123456789"
    assert "GET /numbers/of/digits" in object_store.requests()


def test_copies_have_the_pixels_of_the_archive_without_the_offset(provider_files: ProviderFiles) -> None:
    for copy in provider_files.copies(Form("cog", subtracted=True))[::3]:
        for band, path in product_files(provider_files.library, copy.product).items():
            if band == "CLDPRB":
                assert band not in copy.files
                continue
            with rasterio.open(path) as original, rasterio.open(copy.files[band]) as copied:
                pixels, others = original.read(1).astype(int), copied.read(1)
            offset = 1000 if band.startswith("B") and has_offset(copy.product) else 0
            np.testing.assert_array_equal(np.where(pixels > 0, pixels - offset, 0), others)
            assert (others[pixels > 0] > 0).all()


def test_layouts_name_each_file_once_and_say_what_they_are_told(provider_files: ProviderFiles) -> None:
    copies = provider_files.copies(Form("cog"))
    for layout in LAYOUTS:
        for says in (True, False):
            described = items(copies, layout, str, says_subtracted=says)
            assert len({item["id"] for item in described}) == len(copies)
            told = [str(item["properties"]) + str(item["assets"]) for item in described]
            others = [
                str(item["properties"]) + str(item["assets"])
                for item in items(copies, layout, str, says_subtracted=not says)
            ]
            assert [text != other for text, other in zip(told, others, strict=True)] == [
                has_offset(copy.product) for copy in copies
            ]
