"""Enlargement in small steps; at each, a patch gets the detail of the most similar patches of a blurred image."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import nn

from srzoo.colour import with_bicubic_chroma

_DIMENSIONS = 10
"""Principal components of a patch that are compared; the rest of a 5x5 patch of a photograph is next to nothing."""
_SLACK = 1.0
"""A neighbour may be so much farther (as a fraction) than the nearest one; scores change by 0.005 dB, time by half."""


class InternalPatches(nn.Module):
    """Example-based super-resolution whose only examples are the input image itself.

    Small patches recur within an image across scales (Glasner et al. 2009). Each step enlarges the image by a small
    factor, and takes what that lacks from the image before: where a patch of the enlarged image looks like one of
    the blurred image, it gets that patch's detail, the difference of image and blurred image (Freedman and Fattal
    2011). Then the result is made to agree with the input when shrunk (back-projection, Irani and Peleg 1991).
    SelfExSR (Huang et al. 2015) searches for patches under affine and perspective transformations as well, which
    this does not: patches are compared as they are.

    Luma only; chroma is bicubic. It sees the whole image, runs on the CPU and takes seconds an image.

    Input: RGB (N, 3, H, W) in [0, 1]. Output: (N, 3, scale*H, scale*W), not clamped.

    Args:
        largest_step: enlargement of one step is at most this; x4 takes three steps with 1.6.
        patch_size: side of the patches.
        neighbours: how many similar patches are averaged, by similarity.
        bandwidth: difference from a patch, in grey levels a pixel, at which another counts e^-0.5 times as much.
        back_projections: corrections after each step; 0 for none.
    """

    def __init__(
        self,
        scale: int = 4,
        largest_step: float = 1.6,
        patch_size: int = 5,
        neighbours: int = 5,
        bandwidth: float = 1.0,
        back_projections: int = 10,
    ) -> None:
        super().__init__()
        if largest_step <= 1:
            raise ValueError(f"largest_step must be above 1, not {largest_step}")
        if patch_size < 1 or patch_size % 2 == 0:
            raise ValueError(f"patch_size must be odd, not {patch_size}")
        for name, value, least in (("neighbours", neighbours, 1), ("back_projections", back_projections, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if bandwidth <= 0:
            raise ValueError(f"bandwidth must be above 0, not {bandwidth}")
        self.scale = scale
        self.steps = math.ceil(math.log(scale) / math.log(largest_step) - 1e-9)
        self.patch_size = patch_size
        self.neighbours = neighbours
        self.bandwidth = bandwidth
        self.back_projections = back_projections

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return with_bicubic_chroma(lr.float(), self.scale, self._enlarge).to(lr.dtype)

    def _enlarge(self, planes: torch.Tensor) -> torch.Tensor:
        if planes.device.type == "meta":  # what an entry is composed of is checked by shapes alone
            return planes.new_empty(len(planes), 1, *(side * self.scale for side in planes.shape[-2:]))
        with torch.autocast("cpu", enabled=False):  # bf16 would blur which patches are similar
            enlarged = [self._enlarge_one(plane[None]) for plane in planes.cpu()]
        return torch.cat(enlarged).to(planes.device)

    def _enlarge_one(self, source: torch.Tensor) -> torch.Tensor:
        """Enlarge luma (1, 1, H, W)."""
        image = source
        for step in range(1, self.steps + 1):
            factor = self.scale ** (step / self.steps)
            height, width = (round(side * factor) for side in source.shape[-2:])
            image = self._add_detail(image, (height, width))
            for _ in range(self.back_projections):
                image = image + _resize(source - _resize(image, source.shape[-2:]), image.shape[-2:])
        return image

    def _add_detail(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Enlarge (1, 1, h, w) to a size by interpolation and the detail of similar patches."""
        enlarged = _resize(image, size)
        shrunk = [max(1, round(side * side / new)) for side, new in zip(image.shape[-2:], size, strict=True)]
        blurred = _resize(_resize(image, shrunk), image.shape[-2:])  # lacks what the enlarged image lacks
        wanted, known = _patches(enlarged, self.patch_size), _patches(blurred, self.patch_size)  # (pixels, patch)
        detail = _patches(image - blurred, self.patch_size)
        wanted, known = (patches - patches.mean(dim=1, keepdim=True) for patches in (wanted, known))
        _, basis = torch.linalg.eigh(known.T @ known)  # eigenvalues ascend
        basis = basis[:, -_DIMENSIONS:]
        distance, index = self._nearest((known @ basis).numpy(), (wanted @ basis).numpy())
        width = self.bandwidth / 255 * self.patch_size  # of a patch, as one vector
        weight = torch.softmax(-((distance / width) ** 2) / 2, dim=1)
        found = (detail[index] * weight[..., None]).sum(dim=1)  # (pixels, patch)
        return enlarged + _overlapped(found, size, self.patch_size)

    def _nearest(self, known: np.ndarray, wanted: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        count = min(self.neighbours, len(known))
        tree = cKDTree(known, leafsize=32, balanced_tree=False, compact_nodes=False)  # far quicker to build
        ranks = [*range(1, count + 1)]
        distance, index = tree.query(wanted, k=ranks, eps=_SLACK, workers=torch.get_num_threads())
        return torch.from_numpy(distance).float(), torch.from_numpy(index).long()


def _resize(image: torch.Tensor, size: tuple[int, ...] | list[int] | torch.Size) -> torch.Tensor:
    return F.interpolate(image, size=list(size), mode="bicubic", antialias=True)


def _patches(image: torch.Tensor, side: int) -> torch.Tensor:
    """Return the patch around every pixel of (1, 1, H, W): (H*W, side*side)."""
    padded = F.pad(image, (side // 2,) * 4, mode="replicate")
    return F.unfold(padded, side)[0].T


def _overlapped(patches: torch.Tensor, size: tuple[int, int], side: int) -> torch.Tensor:
    """Return (1, 1, H, W), the mean at every pixel of all patches that reach it."""
    margin = side // 2
    padded = (size[0] + 2 * margin, size[1] + 2 * margin)
    total = F.fold(patches.T[None], padded, side)
    count = F.fold(torch.ones_like(patches).T[None], padded, side)
    return (total / count)[..., margin : margin + size[0], margin : margin + size[1]]
