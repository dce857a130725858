"""Print what a benchmark's results.csv says of each entry, as the ``recorded.scores`` of zoo.yaml.

srzoo bench A B --data set5,set14 --metric psnr,ssim,lpips_squeeze --out table
python benchmarks/record_scores.py table/results.csv
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict


def main() -> None:
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            if not math.isnan(value := float(row["value"])):
                values[row["entry"]][row["dataset"]][row["metric"]].append(value)
    for entry, datasets in values.items():
        print(f"# {entry}\n    scores:")
        for dataset, metrics in datasets.items():
            means = {metric: math.fsum(found) / len(found) for metric, found in metrics.items()}
            shown = ", ".join(f"{m}: {v:.3f}" if m == "psnr" else f"{m}: {v:.4f}" for m, v in means.items())
            print(f"      {dataset}: {{{shown}}}")


if __name__ == "__main__":
    main()
