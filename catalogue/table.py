"""The manifest as people read it."""

from __future__ import annotations

from .manifest import Manifest, Model


def megabytes(size: int | None) -> str:
    """Bytes in decimal megabytes."""
    return "unknown" if size is None else f"{size / 1e6:,.1f}"


def markdown(manifest: Manifest) -> str:
    """Tables of the sets, of the models and of the licences for docs/models.md."""
    sets = [
        f"| `{name}`{' (default)' if name == manifest.default_set else ''} | {', '.join(f'`{key}`' for key in keys)} |"
        for name, keys in manifest.sets.items()
    ]
    licences = [f"| `{key}` | [{row.name}]({row.link}) | {row.commercial} |" for key, row in manifest.licences.items()]
    return "\n".join(
        [
            "| Set | Models |",
            "| --- | --- |",
            *sets,
            "",
            "| Model | File in `models/` | MB | Licence | Commercial use | Hash known |",
            "| --- | --- | ---: | --- | --- | --- |",
            *(line for model in manifest.models for line in _rows(manifest, model)),
            "",
            "| Key | Licence | Commercial use |",
            "| --- | --- | --- |",
            *licences,
        ]
    )


def _rows(manifest: Manifest, model: Model) -> list[str]:
    commercial = manifest.licence_of(model).commercial
    rows = []
    for index, file in enumerate(model.files):
        name = f"`{model.id}`" if index == 0 else ""
        licence = f"`{model.licence}`{', gated' if model.gated else ''}"
        known = "yes" if file.sha256 else "no"
        rows.append(f"| {name} | `{file.path}` | {megabytes(file.size)} | {licence} | {commercial} | {known} |")
    return rows
