"""What pydantic finds wrong with a body, in our words; its own messages may quote a photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError

from ..nodes.errors import UserInputError

# A client calls the fields below it by their own names.
_UNNAMED = "input"


def raise_invalid(error: ValidationError, root: type[BaseModel]) -> NoReturn:
    """The same for a body that pydantic has read: it may be no JSON at all.

    Raises:
        UserInputError: ``body_not_json``; what `raise_first` tells.
    """
    if error.errors(include_input=False)[0]["type"] == "json_invalid":
        fields = ", ".join(f'"{name}": ...' for name, field in root.model_fields.items() if field.is_required())
        raise UserInputError("body_not_json", "body", "the body is not valid JSON", f"Send {{{fields}}}") from error
    raise_first(error, root)


def raise_first(error: ValidationError, root: type[BaseModel]) -> NoReturn:
    """Tell the first finding.

    Args:
        error: of validating a body.
        root: the body's model.

    Raises:
        UserInputError: ``field_missing``, ``field_unknown`` or ``field_type``.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    path = first["loc"]
    shown = path[1:] if path[:1] == (_UNNAMED,) and len(path) > 1 else path
    name = ".".join(str(part)[:100] for part in shown) or "body"
    if first["type"] == "missing":
        raise UserInputError("field_missing", name, "the field is missing", "Add it to the request")
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_model_at(root, path[:-1]).model_fields))
        raise UserInputError("field_unknown", name, "there is no such field", f"Remove it; the fields are {known}")
    problem = first["msg"].removeprefix("Input should be ")
    raise UserInputError("field_type", name, f"the value must be {problem}", "Correct the value")


def _model_at(root: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    model = root
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``list[Model] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument)) is not None), None)
