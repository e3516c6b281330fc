"""Models over HTTP: which there are and which are here, and downloading them for admins."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from aiohttp import web
from pydantic import ValidationError

from ..catalogue.manifest import load_manifest
from ..catalogue.presence import MODEL_FOLDERS
from .auth import Caller
from .bodies import read_submission
from .downloads import DownloadBody, Downloads
from .live import Live
from .service import JobService
from .validation import raise_invalid


class ModelHandlers:
    """One method per route."""

    def __init__(self, service: JobService, live: Live) -> None:
        self._service = service
        self._live = live
        self._downloads = Downloads(load_manifest(), Path(folder_paths.models_dir), model_folders(), self._changed)
        self._loop = service.loop

    async def models(self, request: web.Request, caller: Caller) -> web.Response:
        return web.json_response(await self._service.off_loop(self._downloads.listing))

    async def download(self, request: web.Request, caller: Caller) -> web.Response:
        submission = await read_submission(request, self._service.settings.limits)
        try:
            body = DownloadBody.model_validate_json(submission.json)
        except ValidationError as error:
            raise_invalid(error, DownloadBody)
        return web.json_response(
            self._downloads.start(body.models, body.accept_licences, replace=body.replace), status=202
        )

    async def download_status(self, request: web.Request, caller: Caller) -> web.Response:
        return web.json_response(self._downloads.status())

    async def cancel_download(self, request: web.Request, caller: Caller) -> web.Response:
        return web.json_response(self._downloads.cancel())

    def _changed(self) -> None:
        """In the download's thread."""
        self._loop.call_soon_threadsafe(self._live.download_changed, self._downloads.status)


def model_folders() -> dict[str, list[Path]]:
    """ComfyUI's directories for the manifest's model folders; those it does not know lie below its models folder."""
    known = folder_paths.folder_names_and_paths
    return {
        name: [Path(path) for path in folder_paths.get_folder_paths(name)]
        if name in known
        else [Path(folder_paths.models_dir) / name]
        for name in MODEL_FOLDERS
    }
