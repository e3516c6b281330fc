/** Check Skin Tone's results: a card per image with verdict, reasons and colours. */
import { element } from "../lib/dom.js"
import { picture, verdictMark } from "./parts.js"
import { measuredText, scoreText, words } from "./words.js"

const COLOURS = ["face", "neck", "white", "monk"]

/**
 * @typedef {{passed: boolean, score: number, reasons: object[], faces: object[], picture: ?object}} Item
 *
 * @param {{flux_face_verdicts?: {photo: ?object, items: Item[]}[]}} output of the node
 * @returns {?Node[]} null where the output has no verdicts
 */
export function verdictCards(output) {
  const shown = output.flux_face_verdicts?.[0]
  if (!shown) return null
  const passed = shown.items.filter((item) => item.passed).length
  return [
    element("p", { class: "flux-face-status" }, words("summary", { passed, count: shown.items.length })),
    element("ul", { class: "flux-face-cards" }, ...shown.items.map((item, index) => card(item, index, shown))),
  ]
}

function card(item, index, { photo, items }) {
  const reasons = item.reasons.map(({ code }) => words(`reasons.${code}`))
  return element(
    "li",
    {},
    element(
      "details",
      { class: "flux-face-card", dataset: { passed: item.passed }, open: !item.passed || items.length === 1 },
      element(
        "summary",
        {},
        item.picture && picture(item.picture, ""),
        element(
          "span",
          {},
          verdictMark(item.passed),
          element("span", {}, words("card", { number: index + 1, score: scoreText(item.score) })),
          ...[...new Set(reasons)].map((reason) => element("span", { class: "flux-face-reason" }, reason)),
        ),
      ),
      ...item.reasons.map(measuredText).filter(Boolean).map((text) => element("p", {}, text)),
      ...item.faces.map((face, number) => colours(face, photo, item.faces.length > 1 && number + 1)),
    ),
  )
}

function colours(face, photo, number) {
  const title = number ? words("colours.title_of", { number }) : words("colours.title")
  const swatches = COLOURS.filter((name) => face[name]).map((name) => swatch(name, face[name], face.monk_step))
  if (photo) swatches.splice(1, 0, swatch("photo", photo.face))
  return element(
    "ul",
    { class: "flux-face-swatches", "aria-label": title },
    ...swatches,
    element("li", {}, words("colours.ita", { angle: Math.round(face.ita) })),
  )
}

function swatch(name, colour, step) {
  const sample = element("span", { class: "flux-face-swatch", "aria-hidden": "true" })
  sample.style.background = colour
  return element("li", { title: colour }, sample, words(`colours.${name}`, { step }), " ", element("code", {}, colour))
}
