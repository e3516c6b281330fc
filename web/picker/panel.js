/**
 * What both pickers share: the picture with its faces, one image of a batch at a time, and a line of text below.
 */
import { element } from "../lib/dom.js"
import { FaceOverlay } from "../lib/face_overlay.js"
import { t } from "../lib/text.js"
import { pictureUrl } from "./graph.js"

/** Heights in pixels. */
const HINT = 52
const LINE = 30
const LOWEST_PICTURE = 120
const HIGHEST_PICTURE = 320

const text = (key, values) => t(`picker.${key}`, values)

/**
 * @typedef {object} ImageView what nodes/face/picker.py gives for one image
 * @property {number} width
 * @property {number} height
 * @property {{ filename: string, subfolder: string, type: string } | null} image
 * @property {Record<string, any>[]} faces
 */

/** Shows the images of a batch; what stands on their faces, and what a click does, is its user's. */
export class Panel {
  /** @type {ImageView[]} */
  #views = []
  #place = 0
  #lost = new Set()

  /**
   * @param {object} options
   * @param {(number: number) => void} options.onChoose a face of the present image was chosen
   * @param {() => void} options.onTurn another image is to be shown: call `show` again
   * @param {HTMLElement[]} options.actions buttons at the end of the bar
   */
  constructor({ onChoose, onTurn, actions }) {
    this.onTurn = onTurn
    this.overlay = new FaceOverlay({ onChoose, onLost: () => this.#loseImage() })
    this.hint = element("p", { class: "flux-face-picker-hint" })
    this.status = element("span", { class: "flux-face-picker-status", role: "status" })
    this.count = element("span")
    this.previous = element("button", { type: "button", onclick: () => this.#turn(-1) }, "‹")
    this.next = element("button", { type: "button", onclick: () => this.#turn(1) }, "›")
    this.turning = element("div", { class: "flux-face-picker-turning", role: "group" }, this.previous, this.count, this.next)
    this.bar = element("div", { class: "flux-face-picker-bar" }, this.turning, this.status, ...actions)
    this.element = element("div", { class: "flux-face flux-face-picker" }, this.hint, this.overlay.element, this.bar)
  }

  /**
   * Pixels that everything needs at its present width.
   *
   * @param {number} lines of text or lists beside picture, bar and hint
   */
  height(lines = 0) {
    const { view } = this
    if (!view) return HINT
    const picture = ((this.element.clientWidth || LOWEST_PICTURE) * view.height) / view.width
    const rest = LINE * (1 + lines) + (this.hint.hidden ? 0 : LINE)
    return rest + Math.round(Math.min(Math.max(picture, LOWEST_PICTURE), HIGHEST_PICTURE))
  }

  /** Place of the image that is shown, from 0. */
  get place() {
    return this.#place
  }

  /** The image that is shown. */
  get view() {
    return this.#views[this.#place]
  }

  /**
   * @param {ImageView[]} views
   */
  set views(views) {
    this.#views = views
    this.#place = Math.min(this.#place, Math.max(views.length - 1, 0))
  }

  /**
   * Draws the present image.
   *
   * @param {(face: Record<string, any>) => object} look of a face, without number and box: see `OverlayFace`
   * @param {object} words
   * @param {string} words.hint above the picture; empty for none
   * @param {string} words.status below it
   * @param {boolean} words.disabled
   */
  show(look, { hint, status, disabled }) {
    const { view } = this
    const url = view && pictureUrl(view.image)
    const lost = this.#lost.has(url)
    this.#say(hint || (lost && text("lost")) || (view && !view.faces.length && text("noFaces")) || "")
    this.overlay.element.hidden = this.bar.hidden = !view
    if (!view) return
    const faces = view.faces.map((face) => ({ number: face.number, box: face.box, ...look(face) }))
    const label = text("faces", { number: this.#place + 1 })
    this.overlay.show({ url: lost ? null : url, width: view.width, height: view.height }, faces, { label, disabled })
    this.turning.hidden = this.#views.length < 2
    const turned = { number: this.#place + 1, count: this.#views.length }
    this.turning.setAttribute("aria-label", text("image", turned))
    this.count.textContent = `${turned.number} / ${turned.count}`
    this.previous.setAttribute("aria-label", text("previous"))
    this.next.setAttribute("aria-label", text("next"))
    this.status.textContent = status
  }

  #say(hint) {
    this.hint.hidden = !hint
    this.hint.textContent = hint
  }

  #turn(step) {
    this.#place = (this.#place + step + this.#views.length) % this.#views.length
    this.onTurn()
  }

  /** ComfyUI empties its temporary folder when it starts. */
  #loseImage() {
    this.#lost.add(pictureUrl(this.view?.image))
    this.onTurn()
  }
}

/**
 * What is known of a face, in words.
 *
 * @param {Record<string, any>} face
 * @returns {string[]}
 */
export function describe({ number, box, score, sex, age }) {
  const [width, height] = [box[2] - box[0], box[3] - box[1]].map(Math.round)
  return [
    text("face", { number }),
    text("size", { width, height }),
    text("score", { value: score.toFixed(2) }),
    sex && text(sex),
    age !== null && text("age", { years: age }),
  ].filter(Boolean)
}

document.head.append(element("link", { rel: "stylesheet", href: new URL("picker.css", import.meta.url).href }))
