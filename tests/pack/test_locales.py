"""The texts in the page's languages: English is the schemas' own, and every other language has the same keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flux_face.devtools.pack import ROOT

from .schemas import COMMUNITY_INFOS, INFOS
from .texts import Texts, node_texts, read_locale, schema_texts, shown_tooltips, write_node_texts

ALL_INFOS = INFOS | COMMUNITY_INFOS
ENGLISH = "en"
TRANSLATIONS = ("ja", "zh")
FILES = ("main.json", "nodeDefs.json")
UPDATE = "Run python3 dev.py test tests/pack --update-locales"

# Names and technical words that stay as they are in every language.
SAME_EVERYWHERE = {
    "CLIP",
    "CPU",
    "Flux Face",
    "GPU",
    "Monk",
    "ONNX",
    "PyTorch",
    "bfloat16",
    "classic",
    "float16",
    "float32",
    "onnx",
    "onnxruntime",
}

_PLACE = re.compile(r"\{\w+\}")
_LATIN = re.compile(r"[\x00-\x7f×·…]*")
_QUOTED = re.compile(r"""["']([\w.]+)["']""")
# t("part.key"), t(`part.${key}`), and a short name for the latter: const words = (key) => t(`part.${key}`).
_CALLED = r"""(?<![.\w]){name}\(\s*["']([\w.]+)["']"""
_BUILT = r"""(?<![.\w]){name}\(\s*`([^`]+)`"""
_VARIABLE = r"""(?<![.\w]){name}\(\s*[a-z][\w.]*\s*[,)]"""
_SHORT = re.compile(r"\b(\w+) = \(key\b[^)]*\) => t\(`([\w.]+\.)\$\{key\}`")


def _leaves(texts: Texts, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _flat(language: str, file: str) -> dict[str, str]:
    texts = node_texts(language) if file == "nodeDefs.json" else read_locale(language, file)
    return {" > ".join(path): text for path, text in _leaves(texts)}


def test_english_is_what_the_schemas_say(request: pytest.FixtureRequest) -> None:
    texts = {name: schema_texts(info) for name, info in ALL_INFOS.items()}
    if request.config.getoption("--update-locales"):
        write_node_texts(ENGLISH, texts)
    assert read_locale(ENGLISH, "nodeDefs.json") == texts, UPDATE


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_sockets_have_their_tooltips_by_the_names_shown(language: str, request: pytest.FixtureRequest) -> None:
    texts = node_texts(language)
    for name, info in ALL_INFOS.items():
        texts[name]["inputs"] |= shown_tooltips(info, texts[name])
    if request.config.getoption("--update-locales"):
        write_node_texts(language, texts)
    assert read_locale(language, "nodeDefs.json") == texts, UPDATE


def test_every_category_is_named() -> None:
    parts = {part for info in INFOS.values() for part in info["category"].split("/")}
    # ComfyUI has a name for loaders.
    assert set(read_locale(ENGLISH, "main.json")["nodeCategories"]) == parts - {"loaders"}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_languages_are_in_step(language: str, file: str) -> None:
    english, translated = _flat(ENGLISH, file), _flat(language, file)
    assert {"missing": english.keys() - translated.keys(), "left over": translated.keys() - english.keys()} == {
        "missing": set(),
        "left over": set(),
    }
    assert [key for key, text in translated.items() if not text.strip()] == []
    places = {key: sorted(_PLACE.findall(text)) for key, text in english.items()}
    assert {key: sorted(_PLACE.findall(text)) for key, text in translated.items()} == places


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_nothing_is_left_in_english(language: str, file: str) -> None:
    bare = {key: text for key, text in _flat(language, file).items() if _LATIN.fullmatch(text)}
    words = {key: _PLACE.sub("", text).strip(" /") for key, text in bare.items()}
    assert {key: text for key, text in words.items() if text and text not in SAME_EVERYWHERE} == {}


@pytest.mark.parametrize("language", [ENGLISH, *TRANSLATIONS])
def test_a_community_loader_reads_as_ours(language: str) -> None:
    texts = read_locale(language, "nodeDefs.json")
    assert [name for name in COMMUNITY_INFOS if texts[name] != texts[f"FluxFace{name}"]] == []


@pytest.mark.parametrize("language", [ENGLISH, *TRANSLATIONS])
def test_names_have_no_message_syntax(language: str) -> None:
    """ComfyUI's page compiles all of a node's texts but its tooltips, as messages of vue-i18n."""
    texts = {**_flat(language, "nodeDefs.json"), **_flat(language, "main.json")}
    compiled = {key: text for key, text in texts.items() if not key.endswith("tooltip") and "fluxFace" not in key}
    assert {key: text for key, text in compiled.items() if re.search(r"[{}@|]", text)} == {}
    # Names are keys too, in which a dot would part them.
    assert [key for key, text in compiled.items() if key.endswith("name") and "." in text] == []


def test_the_web_parts_use_the_keys_there_are() -> None:
    keys = {".".join(path[1:]) for path, _ in _leaves(read_locale(ENGLISH, "main.json")) if path[0] == "fluxFace"}
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "web").rglob("*.js"))]
    short = {name: prefix for source in sources for name, prefix in _SHORT.findall(source)}
    called: set[str] = set()
    quoted: set[str] = set()
    built: list[re.Pattern[str]] = []
    for source in sources:
        here = {name: short[name] for name in short if re.search(rf"import {{[^}}]*\b{name}\b|\b{name} = ", source)}
        for name, prefix in {"t": "", **here}.items():
            called |= {prefix + key for key in re.findall(_CALLED.format(name=name), source)}
            # Such as a choice between two keys.
            quoted |= {prefix + text for text in _QUOTED.findall(source)}
            templates = re.findall(_BUILT.format(name=name), _SHORT.sub("", source))
            if re.search(_VARIABLE.format(name=name), source):
                templates.append("${key}")
            built += [_as_pattern(prefix + template) for template in templates]
    assert called - keys == set()
    unused = keys - called - quoted
    assert {key for key in unused if not any(pattern.fullmatch(key) for pattern in built)} == set()


def _as_pattern(template: str) -> re.Pattern[str]:
    """What a template string can become."""
    return re.compile(r"[^.]+".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", template)))
