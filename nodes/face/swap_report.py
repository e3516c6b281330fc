"""What a swap did, image by image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Milliseconds:
    """Time spent. Images are worked on several at once: detection is shared out among them evenly, the rest by faces.

    Attributes:
        detect: finding the faces.
        swap: drawing the new ones.
        paste: putting them into the image.
        compare: telling how alike the faces and the people are, before and after.
    """

    detect: float = 0.0
    swap: float = 0.0
    paste: float = 0.0
    compare: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.detect + self.swap + self.paste + self.compare


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image.

    Attributes:
        faces: how many faces it has.
        numbers: of those that were replaced, as Detect Faces draws them, in the order of pasting.
        identities: whom each of these became, counted from 1 in the order in which the people were given.
        similarity_before, similarity: of each of these to that person, before and after, -1..1.
        milliseconds: the time it took.
    """

    faces: int
    numbers: tuple[int, ...]
    identities: tuple[int, ...]
    similarity_before: tuple[float, ...]
    similarity: tuple[float, ...]
    milliseconds: Milliseconds

    @property
    def swapped(self) -> int:
        """How many faces were replaced."""
        return len(self.numbers)

    def to_json(self) -> dict[str, object]:
        """The report as plain values."""
        spent = self.milliseconds
        return {
            "faces": self.faces,
            "swapped": self.swapped,
            "numbers": list(self.numbers),
            "identities": list(self.identities),
            "similarity_before": [round(value, 4) for value in self.similarity_before],
            "similarity": [round(value, 4) for value in self.similarity],
            "ms": round(spent.total, 1),
            "ms_detect": round(spent.detect, 1),
            "ms_swap": round(spent.swap, 1),
            "ms_paste": round(spent.paste, 1),
            "ms_compare": round(spent.compare, 1),
        }
