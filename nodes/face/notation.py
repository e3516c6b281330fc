"""How choices of faces are written in a plain text: one list for every image, or one list for each of them."""

from __future__ import annotations

from ..errors import UserInputError

NONE = "none"
_BETWEEN_IMAGES = ";"
_BETWEEN_ENTRIES = ","


def lists_per_image(text: str, count: int, code: str, field: str) -> list[list[str]]:
    """The entries for each of `count` images: ``1,3`` for all of them, ``1,3; 2; none`` for three.

    Raises:
        UserInputError: `code`, where there are several lists and not one for each image.
    """
    lists = [
        [entry.strip() for entry in part.split(_BETWEEN_ENTRIES) if entry.strip()]
        for part in text.split(_BETWEEN_IMAGES)
    ]
    if len(lists) == 1:
        return lists * count
    if len(lists) != count:
        raise UserInputError(
            code,
            field,
            f"there are {len(lists)} lists for {count} images",
            "Write one list for all images, or one for each, with ; between them",
        )
    return lists


def is_none(entries: list[str]) -> bool:
    """Whether a list says that no face is meant."""
    return [entry.casefold() for entry in entries] == [NONE]
