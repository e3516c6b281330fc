"""The doctor over HTTP, for admins."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from aiohttp import web
from comfy.cli_args import args

from ..catalogue.manifest import load_manifest
from ..doctor.diagnosis import diagnose
from ..doctor.finding import to_json
from ..doctor.models import STARTER
from ..doctor.subject import Subject
from .auth import Caller
from .model_handlers import model_folders
from .service import JobService


class DoctorHandlers:
    """One method per route.

    Args:
        service: names the default profile, whose models are looked for.
        folder: where the job table is.
    """

    def __init__(self, service: JobService, folder: Path) -> None:
        self._service = service
        self._folder = folder

    async def doctor(self, request: web.Request, caller: Caller) -> web.Response:
        """This process as it runs: its ports are taken, by itself, and not looked at."""
        profile = self._service.settings.default_profile
        # A profile of the operator's own has no set in the catalogue.
        known = {*load_manifest().sets, STARTER}
        outputs = (folder_paths.get_output_directory(), folder_paths.get_temp_directory())
        subject = Subject(
            comfyui=Path(folder_paths.__file__).parent,
            model_folders=model_folders(),
            model_types=(profile,) if profile in known else (),
            gpu=not args.cpu,
            writable=(self._folder, *map(Path, outputs)),
        )
        return web.json_response(to_json(await self._service.off_loop(diagnose, subject)))
