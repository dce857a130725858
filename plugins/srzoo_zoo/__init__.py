"""The zoo itself: ``zoo.yaml`` and the weights that come with it."""

from pathlib import Path

from srzoo import hookimpl


@hookimpl
def srzoo_entries():
    here = Path(__file__).parent
    packaged = here / "zoo.yaml"  # in a wheel; in a checkout zoo.yaml stands at the top
    return [packaged if packaged.exists() else here.parents[1] / "zoo.yaml"]
