"""The photo's face made as soft as the picture it goes into: a crisp face in a blurred photograph looks cut out."""

from __future__ import annotations

from torch import Tensor

from ..blend import blur

# Fine detail is what a blur of the first width takes away, coarser what one of the second does, eye distances.
_FINE = 0.03
_COARSE = 0.09
# Faces differ in this by themselves; below this share of the source's the target is truly softer.
_SOFTER = 0.35
# It is then blurred to this many times the target's: too crisp by a little shows less than lost features.
_SPARED = 1.4
# Widths of blur that are tried, eye distances.
_WIDTHS = (0.01, 0.014, 0.02, 0.028, 0.04, 0.056)


def as_soft_as(source: Tensor, target: Tensor, where: Tensor, span: float) -> Tensor:
    """The source's L*a*b* ``[h, w, 3]``, blurred until its detail is hardly finer than that of a clearly softer target.

    where: the part of the face that is measured, ``[h, w]``. span: pixels between the eyes.
    """
    planes = source.permute(2, 0, 1)
    wanted, have = _detail(target.permute(2, 0, 1), where, span), _detail(planes, where, span)
    if wanted >= _SOFTER * have:
        return source
    for width in _WIDTHS:
        blurred = blur(planes, width * span)
        if _detail(blurred, where, span) <= _SPARED * wanted:
            break
    return blurred.permute(1, 2, 0)


def _detail(planes: Tensor, where: Tensor, span: float) -> float:
    """Fine detail of L*, planes ``[3, h, w]``, as a share of the coarser: what blur takes away first."""
    lightness = planes[:1]
    soft = blur(lightness, _FINE * span)
    fine, coarse = lightness - soft, soft - blur(lightness, _COARSE * span)
    return float((fine[0] ** 2 * where).sum() / (coarse[0] ** 2 * where).sum().clamp(min=1e-6))
