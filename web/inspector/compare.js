/**
 * Job Output: before and after the swap, one behind the other with a slider between them.
 *
 * ComfyUI's own Compare Images has a slider in one of the two renderers only, which cannot be moved with the keyboard.
 */
import { element } from "../lib/dom.js"
import { picture } from "./parts.js"
import { words } from "./words.js"

/**
 * @param {{images?: object[], flux_face_before?: object[]}} output of the node: after and before, one each per image
 * @returns {?Node[]} null where the output has no pairs
 */
export function compare(output) {
  const { images: after, flux_face_before: before } = output
  if (!before?.length || !after?.length) return null
  const count = Math.min(before.length, after.length)
  const stage = element("div", { class: "flux-face-compare" })
  const slider = element("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 50,
    "aria-label": words("compare.slider"),
    oninput: split,
  })
  const position = element("span", { "aria-live": "polite" })
  let index = 0

  function split() {
    stage.style.setProperty("--split", `${slider.value}%`)
    slider.setAttribute("aria-valuetext", words("compare.value", { percent: slider.value }))
  }

  function turn(step) {
    index = (index + step + count) % count
    const number = index + 1
    position.textContent = words("compare.position", { number, count })
    stage.replaceChildren(
      picture(after[index], words("compare.after_of", { number })),
      picture(before[index], words("compare.before_of", { number })),
      element("span", { "aria-hidden": "true" }, words("compare.before")),
      element("span", { "aria-hidden": "true" }, words("compare.after")),
      slider,
    )
    split()
  }

  const button = (sign, name, step) =>
    element("button", { type: "button", "aria-label": words(name), onclick: () => turn(step) }, sign)
  turn(0)
  if (count === 1) return [stage]
  const turning = [button("‹", "compare.previous", -1), position, button("›", "compare.next", 1)]
  return [stage, element("div", { class: "flux-face-turn" }, ...turning)]
}
