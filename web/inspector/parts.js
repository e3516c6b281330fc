/** What the inspector's views have in common. */
import { api } from "../../../scripts/api.js"
import { element } from "../lib/dom.js"
import { words } from "./words.js"

/**
 * A picture that a node has written; it removes itself where the file is gone, as after a restart of ComfyUI.
 *
 * @param {{filename: string, subfolder: string, type: string}} file
 * @param {string} alt
 */
export function picture(file, alt) {
  const image = element("img", { src: api.apiURL(`/view?${new URLSearchParams(file)}`), alt, draggable: "false" })
  image.addEventListener("error", () => image.remove())
  return image
}

/**
 * Passed or failed, as a sign, a word and a colour.
 *
 * @param {boolean} passed
 */
export function verdictMark(passed) {
  return element(
    "strong",
    { class: "flux-face-mark", dataset: { passed } },
    element("span", { "aria-hidden": "true" }, passed ? "✓ " : "✗ "),
    words(passed ? "passed" : "failed"),
  )
}
