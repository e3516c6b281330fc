"""The operator's environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_face.server_routes.settings import Limits, Settings, SettingsError


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environ({})
    assert settings == Settings(Limits(), {}, frozenset(), None, "flux1-schnell-gguf")


def test_every_limit_has_its_variable() -> None:
    names = {name: index for index, name in enumerate(Limits.__dataclass_fields__, start=1)}
    settings = Settings.from_environ({f"FLUX_FACE_{name.upper()}": str(value) for name, value in names.items()})
    assert settings.limits == Limits(**names)


def test_the_rest() -> None:
    settings = Settings.from_environ(
        {
            "FLUX_FACE_API_TOKENS": "alice:0123456789abcdef, bob:fedcba9876543210:with:colons,",
            "FLUX_FACE_PROFILES_DIR": "/graphs",
            "FLUX_FACE_DEFAULT_PROFILE": "mine",
        }
    )
    assert settings.tokens == {"alice": "0123456789abcdef", "bob": "fedcba9876543210:with:colons"}
    assert settings.profiles_dir == Path("/graphs")
    assert settings.default_profile == "mine"


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "many", "1e6"])
def test_a_limit_must_be_a_whole_number(value: str) -> None:
    with pytest.raises(SettingsError, match="FLUX_FACE_MAX_STEPS"):
        Settings.from_environ({"FLUX_FACE_MAX_STEPS": value})


@pytest.mark.parametrize(
    "tokens", ["secret-without-a-name-1", ":0123456789abcdef", "alice:short", "a:0123456789abcdef,a:0123456789abcdeg"]
)
def test_bad_tokens_are_refused_without_being_shown(tokens: str) -> None:
    with pytest.raises(SettingsError, match="FLUX_FACE_API_TOKENS") as caught:
        Settings.from_environ({"FLUX_FACE_API_TOKENS": tokens})
    assert "secret" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_attempts_where_a_request_asks_for_none() -> None:
    assert Settings.from_environ({"FLUX_FACE_MAX_ATTEMPTS": "5"}).max_attempts == 5
    assert Settings.from_environ({"FLUX_FACE_MAX_ATTEMPTS": ""}).max_attempts is None


@pytest.mark.parametrize("value", ["0", "11", "-1", "3.0", "three"])
def test_impossible_attempts_are_named(value: str) -> None:
    with pytest.raises(SettingsError, match="FLUX_FACE_MAX_ATTEMPTS must be a whole number from 1 to 10"):
        Settings.from_environ({"FLUX_FACE_MAX_ATTEMPTS": value})
