"""The zoo itself: ``zoo.yaml``, the weights that come with it, and the ablations."""

from pathlib import Path

from srzoo import hookimpl

HERE = Path(__file__).parent


@hookimpl
def srzoo_entries():
    packaged = HERE / "zoo.yaml"  # in a wheel; in a checkout zoo.yaml stands at the top
    return [packaged if packaged.exists() else HERE.parents[1] / "zoo.yaml"]


@hookimpl
def srzoo_ablations():
    packaged = HERE / "ablations"
    folder = packaged if packaged.exists() else HERE.parents[1] / "benchmarks" / "ablations"
    return sorted(folder.glob("*.yaml"))
