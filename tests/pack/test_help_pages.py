"""The help pages that the web page shows: one per node and language, with just the node's inputs, outputs and errors.

The front-end asks for ``docs/<node>/<locale>.md`` and, where that is missing, for ``docs/<node>.md``, which is English.
The loaders under the community's ids have no pages: their tooltips are shown instead.
"""

from __future__ import annotations

import re

import pytest

from flux_face.devtools.pack import ROOT

from .schemas import INFOS, inputs
from .texts import node_texts

PAGES = ROOT / "web" / "docs"
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "nodes").rglob("*.py")))

# A table's first cell: a name in backticks, and perhaps a mark.
_ROW = re.compile(r"^\| `(\w+)`(?: \((\w+)\))? \|", re.MULTILINE)
_MARK = re.compile(r" \((\w+)\)$")
_CODE = re.compile(r"`([^`]+)`")
_EMPHASIS = re.compile(r"\*+([^*\n]+)\*+")
# A name with the word that the web page shows for it, and perhaps a mark: `name`（word、mark）.
_LABELLED = re.compile(r"^(`[^`]+`)（([^、，）]+)(?:[、，](\w+))?）$")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/\w|\b[A-Za-z]:\\|~/|file://")

# What every page says alike: headings, columns, marks.
WORDS = {
    "ja": {
        "When to use": "使いどころ",
        "Inputs": "入力",
        "Outputs": "出力",
        "How to": "使い方",
        "Reasons": "判定理由",
        "What a shift mends": "補正で直るもの",
        "What can go wrong": "エラーと対処",
        "Limits": "制限",
        "Input": "入力",
        "Output": "出力",
        "Type": "型",
        "Default": "既定値",
        "Meaning": "説明",
        "Error": "エラー",
        "Remedy": "対処",
        "Reason": "理由",
        "The image fails if": "不合格になる条件",
        "Model": "モデル",
        "Files": "ファイル",
        "Folder": "フォルダー",
        "choice": "選択",
        "advanced": "詳細",
        "found here": "ここで検出",
        "not connected": "未接続",
        "empty": "空",
        "first": "先頭",
        "box": "正方形",
        "classic": "クラシック",
        "detector": "検出モデル",
        "recogniser": "認識モデル",
        "swapper": "入れ替えモデル",
        "attributes": "属性モデル",
        "occluder": "遮蔽モデル",
        "parser": "領域分割モデル",
        "restorer": "復元モデル",
    },
    "zh": {
        "When to use": "何时使用",
        "Inputs": "输入",
        "Outputs": "输出",
        "How to": "使用方法",
        "Reasons": "不合格原因",
        "What a shift mends": "偏移能修正什么",
        "What can go wrong": "可能出现的错误",
        "Limits": "限制",
        "Input": "输入",
        "Output": "输出",
        "Type": "类型",
        "Default": "默认值",
        "Meaning": "含义",
        "Error": "错误",
        "Remedy": "解决办法",
        "Reason": "原因",
        "The image fails if": "图像不合格的条件",
        "Model": "模型",
        "Files": "文件",
        "Folder": "文件夹",
        "choice": "选项",
        "advanced": "高级",
        "found here": "在此检测",
        "not connected": "未连接",
        "first": "第一个",
        "box": "方框",
        "empty": "空",
        "detector": "检测器",
        "recogniser": "识别器",
        "swapper": "换脸模型",
        "attributes": "属性模型",
        "occluder": "遮挡模型",
        "parser": "解析模型",
        "restorer": "修复模型",
    },
}


# How a page names a node.
NODE_NAME = {"ja": "「{}」", "zh": "“{}”"}


def _read(name: str, language: str = "") -> str:
    path = PAGES / name / f"{language}.md" if language else PAGES / f"{name}.md"
    return path.read_text(encoding="utf-8")


def _sections(page: str) -> list[tuple[str, str]]:
    """Headings and what is below them; the title's first."""
    parts = re.split(r"^##? (.+)\n", page, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _tables(text: str) -> list[list[list[str]]]:
    """A section's tables, rows and cells, without the line below the header."""
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)]
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in (rows[0], *rows[2:])] for rows in tables]


def _translated(tables: list[list[list[str]]], words: dict[str, str]) -> list[list[list[str]]]:
    """English tables with all cells but the prose in another language."""

    def cell(text: str) -> str:
        return _MARK.sub(lambda mark: f" ({words[mark[1]]})", words.get(text, text))

    return [[[cell(text) for text in row] for row in table] for table in tables]


def _facts(tables: list[list[list[str]]], words: dict[str, str]) -> list[list[list[str]]]:
    """What tables of a language say apart from prose and labels: names, types and defaults."""
    prose = {words[column] for column in ("Meaning", "Remedy", "Files", "The image fails if")}
    return [
        [
            [
                _LABELLED.sub(lambda name: name[1] + (f" ({name[3]})" if name[3] else ""), text)
                for column, text in zip(table[0], row, strict=True)
                if row is table[0] or column not in prose
            ]
            for row in table
        ]
        for table in tables
    ]


def _display_names(language: str) -> dict[str, str]:
    """The pack's nodes in a language, by their English names."""
    texts = node_texts(language)
    return {info["display_name"]: texts[name]["display_name"] for name, info in INFOS.items()}


def _rows(page: str, heading: str) -> dict[str, str]:
    """Names in the tables of a section, in order, with their marks."""
    _, _, rest = page.partition(f"\n## {heading}\n")
    return dict(_ROW.findall(rest.partition("\n## ")[0]))


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    pages = {f"{name}{language}.md" for name in INFOS for language in ("", *(f"/{word}" for word in WORDS))}
    assert {path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")} == pages


@pytest.mark.parametrize("name", INFOS)
def test_a_page_has_the_schemas_names(name: str) -> None:
    info, page = INFOS[name], _read(name)
    advanced = {key: "advanced" if rest.get("advanced") else "" for key, (_, rest) in inputs(info).items()}
    assert page.startswith(f"# {info['display_name']}\n")
    assert _rows(page, "Inputs") == advanced
    assert list(_rows(page, "Outputs")) == info["output_name"]


@pytest.mark.parametrize("name", INFOS)
def test_a_page_names_only_codes_of_the_code(name: str) -> None:
    page = _read(name)
    codes = [*_rows(page, "What can go wrong"), *_rows(page, "Reasons")]
    assert [code for code in codes if f'"{code}"' not in SOURCE] == []


def test_every_error_is_on_a_page() -> None:
    raised = set(re.findall(r'UserInputError\(\s*"(\w+)"', SOURCE))
    explained = {code for name in INFOS for code in _rows(_read(name), "What can go wrong")}
    assert raised
    assert raised - explained == set()


def test_pages_name_no_absolute_path() -> None:
    pages = {(name, language): _read(name, language) for name in INFOS for language in ("", *WORDS)}
    assert [key for key, page in pages.items() if _ABSOLUTE_PATH.search(page)] == []


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("name", INFOS)
def test_a_translated_page_says_the_same(name: str, language: str) -> None:
    words, names = WORDS[language], _display_names(language)
    english, translated = _sections(_read(name)), _sections(_read(name, language))
    assert translated[0][0] == names[english[0][0]]
    assert f"**{words['When to use']}**" in translated[0][1]
    assert [heading for heading, _ in translated[1:]] == [words[heading] for heading, _ in english[1:]]
    for (heading, ours), (_, theirs) in zip(english, translated, strict=True):
        assert _facts(_tables(theirs), words) == _facts(_translated(_tables(ours), words), words), heading
        assert set(_CODE.findall(theirs)) == set(_CODE.findall(ours)), heading
        mentioned = {other for own, other in names.items() if f"*{own}*" in " ".join(ours.split())}
        assert {other for other in mentioned if NODE_NAME[language].format(other) not in theirs} == set(), heading


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("name", INFOS)
def test_a_page_has_the_labels_of_the_web_page(name: str, language: str) -> None:
    """The web page shows labels in place of the names of inputs, outputs and choices that a help page explains."""
    words, texts, sections = WORDS[language], node_texts(language)[name], dict(_sections(_read(name, language)))

    def labels(heading: str) -> dict[str, str]:
        return {
            label[1].strip("`"): label[2]
            for table in _tables(sections[words[heading]])
            for row in table
            if (label := _LABELLED.match(row[0]))
        }

    assert labels("Inputs") == {key: text["name"] for key, text in texts["inputs"].items()}
    # A model's label is that of its type, which ComfyUI has.
    shown = [label for output, label in labels("Outputs").items() if output != "MODEL"]
    assert shown == [text["name"] for text in texts["outputs"].values() if "name" in text]
    for key, text in texts["inputs"].items():
        row = re.search(rf"^\| `{key}`.*", sections[words["Inputs"]], re.MULTILINE)
        assert row
        for value, label in text.get("options", {}).items():
            assert label.casefold() == value or f"`{value}`" not in row[0] or f"`{value}`（{label}）" in row[0]


@pytest.mark.parametrize("language", WORDS)
def test_emphasis_is_seen(language: str) -> None:
    """Markdown sees no emphasis whose mark stands between a letter outside and punctuation inside."""
    pages = {name: f"\n{_read(name, language)}\n" for name in INFOS}
    unseen = [
        (name, match[0])
        for name, page in pages.items()
        for match in _EMPHASIS.finditer(page)
        if (page[match.start() - 1].isalnum() and not match[1][0].isalnum())
        or (page[match.end()].isalnum() and not match[1][-1].isalnum())
    ]
    assert unseen == []
