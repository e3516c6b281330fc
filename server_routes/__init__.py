"""The HTTP API on ComfyUI's own server."""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)


def register_routes() -> None:
    """Add the API to ComfyUI's routes; called once, before ComfyUI starts to serve.

    A ComfyUI that lacks what we need, or settings that cannot be used, leave the nodes working without the API, and
    one line in the log says why.
    """
    from server import PromptServer

    from ..workflows.profiles import BUILT_IN_DIR, ProfileError, load_profiles
    from .comfy_queue import unsupported
    from .handlers import BASE, Handlers
    from .service import JobService
    from .settings import Settings, SettingsError

    server = PromptServer.instance
    missing = unsupported(server)
    if missing:
        log.error("Flux Face: the HTTP API is off, this ComfyUI is not supported; it lacks %s", ", ".join(missing))
        return
    try:
        settings = Settings.from_environ(os.environ)
        directories = [BUILT_IN_DIR] if settings.profiles_dir is None else [BUILT_IN_DIR, settings.profiles_dir]
        profiles = load_profiles(directories)
        if settings.max_attempts is not None:
            profiles = {
                name: profile.with_default("max_attempts", settings.max_attempts) for name, profile in profiles.items()
            }
        if settings.default_profile not in profiles:
            raise SettingsError(f"FLUX_FACE_DEFAULT_PROFILE names no profile: {settings.default_profile!r}")
    except (SettingsError, ProfileError) as error:
        log.error("Flux Face: the HTTP API is off: %s", error)
        return
    service = JobService(server, settings, profiles)
    for route in Handlers(service).routes():
        server.routes.route(route.method, route.path)(route.handler)
    log.info("Flux Face: HTTP API at %s, profiles: %s", BASE, ", ".join(profiles))
