"""The HTTP API on ComfyUI's own server."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web
    from server import PromptServer

    from ..workflows.profiles import Profile
    from .settings import Settings

log = logging.getLogger(__name__)


def register_routes() -> None:
    """Add the API to ComfyUI's routes; called once, before ComfyUI starts to serve.

    A ComfyUI that lacks what we need, or settings that cannot be used, leave the nodes working without the API, and
    one line in the log says why.
    """
    from server import PromptServer

    from ..workflows.profiles import ProfileError
    from .comfy_queue import unsupported
    from .settings import Settings, SettingsError
    from .store import StoreError

    server = PromptServer.instance
    missing = unsupported(server)
    if missing:
        log.error("Flux Face: the HTTP API is off, this ComfyUI is not supported; it lacks %s", ", ".join(missing))
        return
    try:
        settings = Settings.from_environ(os.environ)
        _register(server, settings, _profiles(settings))
    except (SettingsError, ProfileError, StoreError) as error:
        log.error("Flux Face: the HTTP API is off: %s", error)


def _profiles(settings: Settings) -> Mapping[str, Profile]:
    from ..workflows.profiles import BUILT_IN_DIR, load_profiles
    from .settings import SettingsError

    directories = [BUILT_IN_DIR] if settings.profiles_dir is None else [BUILT_IN_DIR, settings.profiles_dir]
    profiles = load_profiles(directories)
    if settings.max_attempts is not None:
        profiles = {
            name: profile.with_default("max_attempts", settings.max_attempts) for name, profile in profiles.items()
        }
    for variable, name in (("DEFAULT_PROFILE", settings.default_profile), ("WARM_UP", settings.warm_up)):
        if name is not None and name not in profiles:
            raise SettingsError(f"FLUX_FACE_{variable} names no profile: {name!r}")
    return profiles


def _register(server: PromptServer, settings: Settings, profiles: Mapping[str, Profile]) -> None:
    import folder_paths

    from .api import route_table
    from .doctor_handlers import DoctorHandlers
    from .job_handlers import JobHandlers
    from .jobs import BASE
    from .live import Live
    from .model_handlers import ModelHandlers
    from .notifier import Notifier
    from .openapi import openapi_document
    from .operation_handlers import OperationHandlers
    from .readiness import Readiness
    from .recovery import recover
    from .routing import Gate, cross_origin
    from .service import JobService
    from .store import StoreThread

    folder = settings.data_dir or Path(folder_paths.get_user_directory()) / "flux-face"
    service = JobService(server, settings, profiles, StoreThread(folder / "jobs.sqlite3", settings.vault))
    readiness = Readiness(service, folder)
    notifier = Notifier(service)
    live = Live(service)
    operations = OperationHandlers(service, readiness)
    routes = route_table(
        JobHandlers(service, live), ModelHandlers(service, live), operations, DoctorHandlers(service, folder)
    )
    operations.document = openapi_document(routes, settings, profiles)
    gate = Gate(settings, service.metrics)
    for route in routes:
        server.routes.route(route.method, route.base + route.path)(gate.wrap(route))
    if settings.cors_origins:
        server.app.middlewares.insert(0, cross_origin(settings))

    async def start(_: web.Application) -> None:
        """Once all packs' nodes are there, and before the first request."""
        await recover(service)
        # ComfyUI collects garbage as a job ends, while we encode its pictures: a third of a second of the interpreter
        # for objects that all live as long as the process. From here on it looks at later ones only.
        gc.collect()
        gc.freeze()
        service.start()
        notifier.start()
        readiness.start()

    server.app.on_startup.append(start)
    log.info("Flux Face: HTTP API at %s, profiles: %s", BASE, ", ".join(profiles))
