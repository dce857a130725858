"""PSNR and SSIM of images in [0, 1], (N, C, H, W) float64, one value an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from srzoo.errors import UndefinedScoreError


class PSNR:
    """10 log10(1 / mean squared error) in dB; infinite for equal images."""

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        error = (sr - hr).square().mean(dim=(1, 2, 3))
        return 10 * torch.log10(1 / error)


class SSIM:
    """SSIM of Wang et al. 2004 as the field's tables have it: Gaussian window, valid region, population covariance.

    Args:
        window_size: side of the window in pixels.
        sigma: deviation of the Gaussian in pixels.
        k1: stabiliser of the luminance term.
        k2: stabiliser of the contrast term.
    """

    def __init__(self, window_size: int = 11, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03) -> None:
        if window_size % 2 == 0:
            raise ValueError(f"window_size must be odd, not {window_size}")
        offsets = torch.arange(window_size, dtype=torch.float64) - window_size // 2
        window = torch.exp(-offsets.square() / (2 * sigma**2))
        self.window = window / window.sum()
        self.c1, self.c2 = k1**2, k2**2

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """Return the mean of the SSIM map.

        Raises:
            UndefinedScoreError: an image is smaller than the window.
        """
        n, channels, height, width = sr.shape
        if min(height, width) < len(self.window):
            side = len(self.window)
            raise UndefinedScoreError(
                f"SSIM needs at least {side}x{side} pixels inside the border, not {width}x{height}"
            )
        x, y = sr.double(), hr.double()
        moments = torch.cat([x, y, x * x, y * y, x * y]).view(5 * n * channels, 1, height, width)
        mean_x, mean_y, xx, yy, xy = self._blur(moments).unflatten(0, (5, n, channels)).squeeze(3)
        variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + self.c1) / (mean_x**2 + mean_y**2 + self.c1)
        contrast = (2 * covariance + self.c2) / (variance_x + variance_y + self.c2)
        return (luminance * contrast).mean(dim=(1, 2, 3))

    def _blur(self, images: torch.Tensor) -> torch.Tensor:
        window = self.window.to(images)
        rows = F.conv2d(images, window.view(1, 1, -1, 1))
        return F.conv2d(rows, window.view(1, 1, 1, -1))
