"""Datasets that need no download: the photographs inside scikit-image's wheel."""

from srzoo import DatasetSpec, hookimpl


@hookimpl
def srzoo_datasets():
    return [
        DatasetSpec(
            "photos",
            "srzoo_photos.photos:photos",
            summary="Nine free photographs carried by scikit-image, at most 512x512 each",
            licence="public domain and CC0, see scikit-image's data/README.txt",
        )
    ]
