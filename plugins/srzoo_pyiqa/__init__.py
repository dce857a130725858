"""Metrics of IQA-PyTorch (pyiqa) under ``pyiqa/NAME``, listed without importing it.

Left out are PSNR, SSIM and LPIPS, which srzoo has under the field's own protocols; FID and its kin, which score sets
and not images; and language models of billions of parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from srzoo import MetricSpec, hookimpl

LICENCE = "pyiqa: PolyForm Noncommercial 1.0.0; weights: their authors'"

# name in pyiqa: title, lower is better, largest and smallest value where exact, whether it sees luma alone, paper
FULL_REFERENCE: dict[str, tuple[str, bool, tuple[float | None, float | None], bool, str]] = {
    "afine_fr": ("A-FINE, fidelity part", True, (None, None), False, "arXiv:2503.11221"),
    "ahiq": ("AHIQ", False, (None, None), False, "arXiv:2204.10485"),
    "ckdn": ("CKDN", False, (None, None), False, "arXiv:2108.07948"),
    "cw_ssim": ("Complex wavelet SSIM", False, (None, None), True, "doi:10.1109/TIP.2009.2025923"),
    "deepdc": ("DeepDC", True, (None, None), False, "arXiv:2211.04927"),
    "dists": ("DISTS", True, (None, None), False, "arXiv:2004.07728"),
    "fsim": ("FSIM", False, (None, None), False, "doi:10.1109/TIP.2011.2109730"),
    "gmsd": ("Gradient magnitude similarity deviation", True, (0.0, None), True, "arXiv:1308.3052"),
    "mad": ("Most apparent distortion", True, (0.0, None), False, "doi:10.1117/1.3267105"),
    "ms_ssim": ("Multi-scale SSIM", False, (None, 1.0), True, "doi:10.1109/ACSSC.2003.1292216"),
    "msswd": ("Multi-scale sliced Wasserstein distance of colours", True, (0.0, None), False, "arXiv:2407.10181"),
    "nlpd": ("Normalised Laplacian pyramid distance", True, (0.0, None), True, "arXiv:1701.06641"),
    "pieapp": ("PieAPP", True, (None, None), False, "arXiv:1806.02067"),
    "stlpips": ("Shift-tolerant LPIPS on AlexNet", True, (0.0, None), False, "arXiv:2207.13686"),
    "stlpips-vgg": ("Shift-tolerant LPIPS on VGG16", True, (0.0, None), False, "arXiv:2207.13686"),
    "topiq_fr": ("TOPIQ, full reference", False, (None, None), False, "arXiv:2308.03060"),
    "topiq_fr-pipal": ("TOPIQ, full reference, trained on PIPAL", False, (None, None), False, "arXiv:2308.03060"),
    "vif": ("Visual information fidelity", False, (None, None), False, "doi:10.1109/TIP.2005.859378"),
    "vsi": ("Visual saliency-induced index", False, (None, None), False, "doi:10.1109/TIP.2014.2346028"),
    "wadiqam_fr": ("WaDIQaM, full reference", False, (None, None), False, "arXiv:1612.01697"),
}
NO_REFERENCE: dict[str, tuple[str, bool, tuple[float | None, float | None], bool, str]] = {
    "afine_nr": ("A-FINE, naturalness part", True, (None, None), False, "arXiv:2503.11221"),
    "arniqa": ("ARNIQA", False, (None, None), False, "arXiv:2310.14918"),
    "brisque": ("BRISQUE", True, (None, None), True, "doi:10.1109/TIP.2012.2214050"),
    "clipiqa": ("CLIP-IQA", False, (0.0, 1.0), False, "arXiv:2207.12396"),
    "clipiqa+": ("CLIP-IQA+", False, (0.0, 1.0), False, "arXiv:2207.12396"),
    "cnniqa": ("CNNIQA", False, (None, None), False, "doi:10.1109/CVPR.2014.224"),
    "dbcnn": ("DBCNN", False, (None, None), False, "arXiv:1907.02665"),
    "hyperiqa": ("HyperIQA", False, (None, None), False, "doi:10.1109/CVPR42600.2020.00372"),
    "ilniqe": ("IL-NIQE", True, (None, None), False, "doi:10.1109/TIP.2015.2426416"),
    "laion_aes": ("LAION aesthetics", False, (None, None), False, "https://github.com/LAION-AI/aesthetic-predictor"),
    "liqe": ("LIQE", False, (1.0, 5.0), False, "arXiv:2303.14968"),
    "maniqa": ("MANIQA", False, (None, None), False, "arXiv:2204.08958"),
    "maniqa-pipal": ("MANIQA, trained on PIPAL", False, (None, None), False, "arXiv:2204.08958"),
    "musiq": ("MUSIQ, trained on KonIQ-10k", False, (None, None), False, "arXiv:2108.05997"),
    "musiq-spaq": ("MUSIQ, trained on SPAQ", False, (None, None), False, "arXiv:2108.05997"),
    "nima": ("NIMA", False, (0.0, 10.0), False, "arXiv:1709.05424"),
    "niqe": ("NIQE", True, (None, None), True, "doi:10.1109/LSP.2012.2227726"),
    "nrqm": ("NRQM, the score of Ma et al.", False, (None, None), False, "arXiv:1612.05890"),
    "paq2piq": ("PaQ-2-PiQ", False, (None, None), False, "arXiv:1912.10088"),
    "pi": ("Perceptual index of the PIRM challenge: half of NIQE + 10 - NRQM", True, (None, None), False,
           "arXiv:1809.07517"),
    "piqe": ("PIQE", True, (0.0, 100.0), False, "doi:10.1109/NCC.2015.7084843"),
    "qualiclip": ("QualiCLIP", False, (0.0, 1.0), False, "arXiv:2403.11176"),
    "topiq_nr": ("TOPIQ, no reference", False, (None, None), False, "arXiv:2308.03060"),
    "topiq_nr-face": ("TOPIQ, no reference, for faces", False, (None, None), False, "arXiv:2308.03060"),
    "tres": ("TReS", False, (None, None), False, "arXiv:2108.06858"),
    "unique": ("UNIQUE", False, (None, None), False, "arXiv:2005.13983"),
    "wadiqam_nr": ("WaDIQaM, no reference", False, (None, None), False, "arXiv:1612.01697"),
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """Builds one metric of pyiqa."""

    name: str
    full_reference: bool

    def __call__(self) -> Any:
        from .metric import PyiqaMetric

        return PyiqaMetric(self.name, self.full_reference)


def _specs() -> Iterator[MetricSpec]:
    for table, words in ((FULL_REFERENCE, ""), (NO_REFERENCE, ", no reference")):
        for name, (title, lower, bounds, luma, paper) in table.items():
            yield MetricSpec(
                name.replace("+", "_plus"),
                Named(name, table is FULL_REFERENCE),
                summary=f"{title}, from pyiqa ({'luma' if luma else 'RGB'}{words})",
                paper=paper,
                licence=LICENCE,
                higher_is_better=not lower,
                value_range=bounds,
                domain="rgb",
                full_reference=table is FULL_REFERENCE,
                tolerance=5e-3,
                library="pyiqa",
            )


@hookimpl
def srzoo_metrics():
    return list(_specs())
