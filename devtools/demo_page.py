"""The demo's result as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --paper: #faf8f5; --card: #fff; --ink: #26221d; --soft: #79716a; --line: #e8e2da;
  --accent: #c2552d; --good: #2e7d4f; --good-soft: #e4f3e9; --bad: #b3372f; --bad-soft: #fbe7e4; }
@media (prefers-color-scheme: dark) { :root { --paper: #191715; --card: #24211e; --ink: #f0ebe4; --soft: #a59c92;
  --line: #38332e; --accent: #ee8c5f; --good: #7fd3a0; --good-soft: #1f3a2a; --bad: #f2948b; --bad-soft: #45231f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { margin: 0; font-size: 2rem; letter-spacing: -.02em; }
h1 b { color: var(--accent); font-weight: inherit; }
.prompt { margin: .4rem 0 2.2rem; color: var(--soft); font-size: 1.1rem; }
.prompt q { color: var(--ink); font-style: italic; }
.row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)) minmax(13rem, 1fr); gap: 1.4rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 1.4rem; margin-bottom: 1.4rem; }
figure { margin: 0; }
figure img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 10px; display: block;
  background: var(--line); }
figcaption { margin-top: .55rem; color: var(--soft); font-size: .85rem; text-align: center; }
.chip { display: inline-block; padding: .2rem .8rem; border-radius: 99px; font-weight: 600; font-size: .9rem; }
.pass { background: var(--good-soft); color: var(--good); }
.fail { background: var(--bad-soft); color: var(--bad); }
.meter { height: 6px; border-radius: 3px; background: var(--line); margin: .9rem 0 .3rem; overflow: hidden; }
.meter i { display: block; height: 100%; background: currentColor; }
ul.reasons { margin: .6rem 0; padding-left: 1.1rem; color: var(--bad); font-size: .88rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .15rem .9rem; margin: .9rem 0 0; font-size: .88rem; }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .8rem; }
.times { background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 1.1rem 1.4rem; }
.bar { display: grid; grid-template-columns: 11rem 1fr 5rem; gap: 1rem; align-items: center; padding: .22rem 0;
  font-size: .88rem; }
.bar i { display: block; height: 9px; border-radius: 5px; background: var(--accent); min-width: 2px; }
.bar span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
footer { margin-top: 2.2rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 52rem) { .row { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""

# Of the job's time; what took less is left out.
SHOWN_SHARE = 0.005


@dataclass(frozen=True)
class Item:
    """One finished image.

    Attributes:
        generated: PNG file before the swap.
        swapped: PNG file after it.
        report: its entry in the demo's report.
    """

    generated: bytes
    swapped: bytes
    report: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        prompt: what was asked for.
        photo: PNG file.
        items: the finished images.
        report: the demo's report.
    """

    prompt: str
    photo: bytes
    items: Sequence[Item]
    report: dict[str, Any]


def render(page: Page) -> str:
    """The page as HTML."""
    rows = "\n".join(_row(page.photo, item) for item in page.items)
    engine = page.report["engine"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flux Face demo</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Flux <b>Face</b></h1>
<p class="prompt">Prompt: <q>{escape(page.prompt)}</q></p>
{rows}
{_timings(page.report["timings"])}
<footer>Profile {escape(page.report["profile"])} · face engine {escape(engine["name"])} on {escape(engine["provider"])}.
The portraits are machine-made, by starter models that draw in a plain illustrated style.</footer>
</main>
</body>
</html>
"""


def _row(photo: bytes, item: Item) -> str:
    return f"""<section class="row">
{_figure(photo, "the photo")}
{_figure(item.generated, "drawn from the prompt")}
{_figure(item.swapped, "with the photo's face")}
{_verdict(item.report)}
</section>"""


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _verdict(report: dict[str, Any]) -> str:
    verdict = report["verdict"]
    passed = verdict["passed"]
    kind, word = ("pass", "skin tone passed") if passed else ("fail", "skin tone rejected")
    score = max(0.0, min(1.0, float(verdict["score"])))
    reasons = "".join(f"<li>{escape(str(reason['message']))}</li>" for reason in verdict["reasons"])
    facts = {"score": f"{score:.2f}", "attempts": report["attempts"], "seed": report["seed"]}
    before, after = report["swap"]["similarity_before"], report["swap"]["similarity"]
    if before and after:
        facts["likeness"] = f"{before[0]:.2f} → {after[0]:.2f}"
    return f"""<div>
<span class="chip {kind}">{word}</span>
<div class="{kind} meter"><i style="width:{score:.0%}"></i></div>
{f'<ul class="reasons">{reasons}</ul>' if reasons else ""}
<dl>{"".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())}</dl>
</div>"""


def _timings(timings: dict[str, Any]) -> str:
    """Bars for what took time, in order of the job."""
    total = timings["execution_ms"] / 1000
    steps = {"waiting": timings["queue_ms"] / 1000}
    steps.update({node: ms / 1000 for node, ms in timings["nodes_ms"].items()})
    steps["encoding"] = timings["encode_ms"] / 1000
    longest = max(steps.values()) or 1.0
    bars = "\n".join(
        f'<div class="bar"><span>{escape(name)}</span>'
        f'<span><i style="width:{seconds / longest:.1%}"></i></span><span>{seconds:.2f} s</span></div>'
        for name, seconds in steps.items()
        if seconds >= SHOWN_SHARE * total
    )
    return f'<h2>Where the {total:.1f} s went</h2>\n<div class="times">{bars}</div>'
