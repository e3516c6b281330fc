"""Colour science: sRGB, CIELAB, hue and chroma, individual typology angle, CIEDE2000, HSV, YCrCb.

All functions take and return torch float tensors whose last axis holds the three channels, on any device and with
any leading shape. sRGB values are encoded (as in an IMAGE), 0..1.

Sources: IEC 61966-2-1 (sRGB); CIE 15:2004 (CIELAB, D65 white for the 2 degree observer); Chardon, Cretois and
Hourseau 1991 (ITA); Sharma, Wu and Dalal 2005, "The CIEDE2000 color-difference formula"; ITU-R BT.601 (YCrCb).
"""

from __future__ import annotations

import math

import torch

# IEC 61966-2-1, linear sRGB to XYZ. The white point is the sum of the rows, so that white is exactly neutral.
_RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_EPSILON = (6.0 / 29.0) ** 3
_KAPPA_SLOPE = (29.0 / 6.0) ** 2 / 3.0


def srgb_to_linear(rgb: torch.Tensor) -> torch.Tensor:
    """Encoded sRGB to linear light."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055).clamp_min(0.0) / 1.055) ** 2.4)


def linear_to_lab(linear: torch.Tensor) -> torch.Tensor:
    """Linear sRGB to CIELAB relative to D65."""
    matrix = linear.new_tensor(_RGB_TO_XYZ)
    xyz = linear @ (matrix / matrix.sum(dim=1, keepdim=True)).T
    f = torch.where(xyz > _EPSILON, xyz.clamp_min(_EPSILON) ** (1.0 / 3.0), xyz * _KAPPA_SLOPE + 4.0 / 29.0)
    x, y, z = f.unbind(-1)
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), dim=-1)


def srgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """Encoded sRGB to CIELAB relative to D65."""
    return linear_to_lab(srgb_to_linear(rgb))


def lab_to_linear(lab: torch.Tensor) -> torch.Tensor:
    """CIELAB relative to D65 to linear sRGB; below 0 or above 1 for colours that sRGB does not have."""
    lightness, a, b = lab.unbind(-1)
    y = (lightness + 16.0) / 116.0
    f = torch.stack((y + a / 500.0, y, y - b / 200.0), dim=-1)
    relative = torch.where(f > 6.0 / 29.0, f**3, (f - 4.0 / 29.0) / _KAPPA_SLOPE)
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix / matrix.sum(dim=1, keepdim=True))
    linear: torch.Tensor = relative @ inverse.T.to(lab)
    return linear


def lab_to_srgb(lab: torch.Tensor) -> torch.Tensor:
    """CIELAB relative to D65 to encoded sRGB, clipped to 0..1."""
    linear = lab_to_linear(lab).clamp(0.0, 1.0)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1.0 / 2.4) - 0.055)


def chroma(lab: torch.Tensor) -> torch.Tensor:
    """Distance from the neutral axis."""
    return torch.hypot(lab[..., 1], lab[..., 2])


def hue(lab: torch.Tensor) -> torch.Tensor:
    """Hue angle in degrees, 0..360: 0 is red, 90 yellow, 180 green, 270 blue."""
    return torch.rad2deg(torch.atan2(lab[..., 2], lab[..., 1])) % 360.0


def typology_angle(lab: torch.Tensor) -> torch.Tensor:
    """Individual typology angle in degrees: over 55 very light, 41 light, 28 intermediate, 10 tan, -30 brown, dark."""
    return torch.rad2deg(torch.atan2(lab[..., 0] - 50.0, lab[..., 2]))


def ciede2000(lab_a: torch.Tensor, lab_b: torch.Tensor, lightness_factor: float = 1.0) -> torch.Tensor:
    """CIEDE2000 colour difference.

    Args:
        lab_a, lab_b: CIELAB, broadcast against each other.
        lightness_factor: the formula's parametric factor kL; above 1 it forgives differences of shade.
    """
    l1, a1, b1 = lab_a.unbind(-1)
    l2, a2, b2 = lab_b.unbind(-1)
    mean_c = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2.0
    g = 0.5 * (1.0 - torch.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    a1, a2 = a1 * (1.0 + g), a2 * (1.0 + g)
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = torch.rad2deg(torch.atan2(b1, a1)) % 360.0, torch.rad2deg(torch.atan2(b2, a2)) % 360.0
    grey = c1 * c2 == 0.0

    dh = torch.remainder(h2 - h1 + 180.0, 360.0) - 180.0
    # Opposite hues: the published data take the positive half turn where h2 exceeds h1.
    dh = torch.where((dh == -180.0) & (h2 > h1), 180.0, dh)
    dh = torch.where(grey, 0.0, dh)
    d_l, d_c = l2 - l1, c2 - c1
    d_h = 2.0 * torch.sqrt(c1 * c2) * torch.sin(torch.deg2rad(dh / 2.0))

    mean_l, mean_c = (l1 + l2) / 2.0, (c1 + c2) / 2.0
    total = h1 + h2
    far = (h1 - h2).abs() > 180.0
    mean_h = torch.where(far, torch.where(total < 360.0, total + 360.0, total - 360.0), total) / 2.0
    mean_h = torch.where(grey, total, mean_h)

    t = (
        1.0
        - 0.17 * _cos(mean_h - 30.0)
        + 0.24 * _cos(2.0 * mean_h)
        + 0.32 * _cos(3.0 * mean_h + 6.0)
        - 0.20 * _cos(4.0 * mean_h - 63.0)
    )
    s_l = 1.0 + 0.015 * (mean_l - 50.0) ** 2 / torch.sqrt(20.0 + (mean_l - 50.0) ** 2)
    s_c = 1.0 + 0.045 * mean_c
    s_h = 1.0 + 0.015 * mean_c * t
    turn = 60.0 * torch.exp(-(((mean_h - 275.0) / 25.0) ** 2))
    r_t = -torch.sin(torch.deg2rad(turn)) * 2.0 * torch.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))

    l_term, c_term, h_term = d_l / (lightness_factor * s_l), d_c / s_c, d_h / s_h
    return torch.sqrt((l_term**2 + c_term**2 + h_term**2 + r_t * c_term * h_term).clamp_min(0.0))


def rgb_to_hsv(rgb: torch.Tensor) -> torch.Tensor:
    """Hue in degrees 0..360, saturation and value 0..1 (the hexcone model)."""
    high, low = rgb.amax(-1), rgb.amin(-1)
    span = high - low
    r, g, b = rgb.unbind(-1)
    safe = torch.where(span > 0.0, span, 1.0)
    sector = torch.where(high == r, (g - b) / safe, torch.where(high == g, 2.0 + (b - r) / safe, 4.0 + (r - g) / safe))
    angle = torch.where(span > 0.0, (sector * 60.0) % 360.0, 0.0)
    return torch.stack((angle, torch.where(high > 0.0, span / high.clamp_min(1e-12), 0.0), high), dim=-1)


def rgb_to_ycrcb(rgb: torch.Tensor) -> torch.Tensor:
    """Full-range Y, Cr, Cb of BT.601, 0..1 with neutral chroma at 0.5 (as OpenCV's, divided by 255)."""
    r, g, b = rgb.unbind(-1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.stack((y, (r - y) * 0.713 + 0.5, (b - y) * 0.564 + 0.5), dim=-1)


def _cos(degrees: torch.Tensor) -> torch.Tensor:
    return torch.cos(degrees * (math.pi / 180.0))
