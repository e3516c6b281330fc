/**
 * A picture with a button on each of its faces. It fits into whatever room its element is given.
 */
import { element } from "./dom.js"

/**
 * @typedef {object} Picture
 * @property {string | null} url `null` for an empty frame
 * @property {number} width in pixels, as the boxes count
 * @property {number} height
 */

/**
 * @typedef {object} OverlayFace
 * @property {number} number
 * @property {[number, number, number, number]} box x0, y0, x1, y1 in pixels
 * @property {string} text shown on the face, beside its number
 * @property {string} label read out instead of what is shown
 * @property {boolean} [pressed] whether it is chosen; left out, the button is no toggle
 * @property {"plain" | "good" | "bad"} [verdict] shown by colour and by a sign
 * @property {string} [colour] of its frame, instead of the verdict's
 */

const SIGNS = { plain: "", good: "✓", bad: "✗" }
/** What a chip takes of the picture's height, about. */
const CHIP = 0.12
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }

/** Picture and buttons; put `element` into the page, then call `show`. */
export class FaceOverlay {
  /** @type {Map<number, HTMLElement>} */
  #buttons = new Map()
  #frame
  #image

  /**
   * @param {object} options
   * @param {(number: number) => void} options.onChoose a face was clicked, or Enter or Space pressed on it
   * @param {() => void} [options.onLost] the picture could not be loaded
   */
  constructor({ onChoose, onLost }) {
    this.onChoose = onChoose
    this.#image = element("img", { alt: "", draggable: "false", onerror: () => onLost?.() })
    this.#frame = element("div", { class: "flux-face-overlay-frame" }, this.#image)
    this.element = element(
      "div",
      { class: "flux-face-overlay", role: "group", onkeydown: (event) => this.#walk(event) },
      this.#frame,
    )
  }

  /**
   * Shows a picture and its faces. Buttons of the same numbers stay, and with them the focus.
   *
   * @param {Picture} picture
   * @param {OverlayFace[]} faces
   * @param {object} options
   * @param {string} options.label of the group of faces
   * @param {boolean} [options.disabled] the faces can be looked at, not chosen
   */
  show(picture, faces, { label, disabled = false }) {
    this.element.setAttribute("aria-label", label)
    this.#frame.style.setProperty("--flux-face-ratio", String(picture.width / picture.height))
    this.#image.hidden = !picture.url
    if (picture.url && this.#image.getAttribute("src") !== picture.url) this.#image.src = picture.url
    const kept = new Map()
    for (const face of inReadingOrder(faces)) {
      const button = this.#buttons.get(face.number) ?? this.#button(face.number)
      draw(button, face, picture, disabled)
      kept.set(face.number, button)
    }
    this.#buttons.forEach((button, number) => kept.has(number) || button.remove())
    // Moving a button would take the focus from it.
    const ordered = [...kept.values()]
    const current = [...this.#frame.querySelectorAll("button")]
    if (ordered.some((button, place) => button !== current[place])) this.#frame.append(...ordered)
    this.#buttons = kept
  }

  #button(number) {
    return element(
      "button",
      { type: "button", class: "flux-face-overlay-face", onclick: () => this.#choose(number) },
      element("span", { class: "flux-face-overlay-chip" }),
    )
  }

  #choose(number) {
    if (this.#buttons.get(number).getAttribute("aria-disabled") !== "true") this.onChoose(number)
  }

  /** Arrow keys, Home and End move between faces, as Tab does. */
  #walk(event) {
    const buttons = [...this.#buttons.values()]
    const place = buttons.indexOf(event.target)
    const goal = { Home: 0, End: buttons.length - 1 }[event.key] ?? place + (STEPS[event.key] ?? 0)
    // The page has keys of its own, which must not act on what is pressed here.
    if (event.key !== "Tab" && !event.ctrlKey && !event.metaKey) event.stopPropagation()
    if (place < 0 || goal === place) return
    event.preventDefault()
    buttons[(goal + buttons.length) % buttons.length].focus()
  }
}

/**
 * Row by row, and from left to right within a row.
 *
 * @template {{ box: [number, number, number, number] }} T
 * @param {T[]} faces
 * @returns {T[]}
 */
export function inReadingOrder(faces) {
  const middle = ({ box }) => (box[1] + box[3]) / 2
  const rows = []
  for (const face of [...faces].sort((a, b) => middle(a) - middle(b))) {
    const row = rows.at(-1)
    if (row && middle(face) < row[0].box[3]) row.push(face)
    else rows.push([face])
  }
  return rows.flatMap((row) => row.sort((a, b) => a.box[0] - b.box[0]))
}

function draw(button, face, { width, height }, disabled) {
  const [x0, y0, x1, y1] = face.box
  const share = (value, whole) => `${(100 * value) / whole}%`
  Object.assign(button.style, {
    left: share((x0 + x1) / 2, width),
    top: share((y0 + y1) / 2, height),
    width: share(x1 - x0, width),
    height: share(y1 - y0, height),
  })
  button.style.setProperty("--flux-face-colour", face.colour ?? "")
  const verdict = face.verdict ?? "plain"
  button.dataset.verdict = verdict
  button.dataset.number = String(face.number)
  button.setAttribute("aria-label", face.label)
  button.title = face.label
  button.setAttribute("aria-disabled", String(disabled))
  if (face.pressed === undefined) button.removeAttribute("aria-pressed")
  else button.setAttribute("aria-pressed", String(face.pressed))
  // The chip stands outside of the face, and inside of the picture.
  button.dataset.chip = `${y0 > CHIP * height ? "above" : "below"} ${x0 + x1 > width ? "right" : "left"}`
  button.firstChild.textContent = [face.number, face.text, SIGNS[verdict]].filter(Boolean).join(" ")
}

document.head.append(
  element("link", { rel: "stylesheet", href: new URL("face_overlay.css", import.meta.url).href }),
)
