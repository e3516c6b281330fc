"""Bar charts as SVG, for the pages of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _ROW, _LABELS, _TOP = 760, 26, 190, 48
_OURS, _THEIRS, _INK, _LINE = "#2f6fd6", "#b9b9b9", "#333333", "#dddddd"


def paired_bars(
    title: str,
    labels: Sequence[str],
    ours: Sequence[float],
    theirs: Sequence[float],
    names: tuple[str, str],
    top: float,
) -> str:
    """Two horizontal bars per label: ours above the reference's, both from 0 to `top`."""
    height = _TOP + _ROW * len(labels) + 34
    scale = (_WIDTH - _LABELS - 60) / top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        f'<g font-family="sans-serif" font-size="12" fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-size="15">{escape(title)}</text>',
    ]
    for index, (name, colour) in enumerate(zip(names, (_OURS, _THEIRS), strict=True)):
        x = 10 + 200 * index
        parts.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="39">{escape(name)}</text>')
    for row, (label, mine, other) in enumerate(zip(labels, ours, theirs, strict=True)):
        y = _TOP + _ROW * row
        parts.append(f'<text x="{_LABELS - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>')
        for offset, value, colour in ((4, mine, _OURS), (14, other, _THEIRS)):
            width = max(0.5, value * scale)
            parts.append(f'<rect x="{_LABELS}" y="{y + offset}" width="{width:.1f}" height="9" fill="{colour}"/>')
        parts.append(
            f'<text x="{_LABELS + max(mine, other) * scale + 6:.1f}" y="{y + 16}">{mine:.3g} / {other:.3g}</text>'
        )
    bottom = _TOP + _ROW * len(labels) + 4
    parts.append(f'<line x1="{_LABELS}" y1="{_TOP}" x2="{_LABELS}" y2="{bottom}" stroke="{_LINE}"/>')
    parts.append("</g></svg>")
    return "\n".join(parts) + "\n"
