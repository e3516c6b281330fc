/**
 * The picker on Select Faces: a click on a face puts it into `numbers`, or takes it out.
 */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { isLinked, outputOf, setWidget, widgetOf } from "./graph.js"
import { formatNumbers, parseNumbers } from "./notation.js"
import { describe, Panel } from "./panel.js"

const NUMBERS = "numbers"
const text = (key, values) => t(`picker.${key}`, values)

/** See `attach` in web/face_picker.js for what a picker offers. */
export class SelectFacesPicker {
  widgets = [NUMBERS]
  #all = element("button", { type: "button", onclick: () => this.#chooseAll(true) })
  #none = element("button", { type: "button", onclick: () => this.#chooseAll(false) })

  constructor(node) {
    this.node = node
    this.panel = new Panel({
      onChoose: (number) => this.#toggle(number),
      onTurn: () => this.refresh(),
      actions: [this.#all, this.#none],
    })
    this.element = this.panel.element
  }

  get views() {
    return outputOf(this.node)?.flux_face_faces ?? []
  }

  get minHeight() {
    return this.panel.height()
  }

  refresh() {
    const { panel, views } = this
    panel.views = views
    const chosen = this.#chosen()
    const linked = isLinked(this.node, NUMBERS)
    this.#all.textContent = text("all")
    this.#none.textContent = text("none")
    this.#all.disabled = this.#none.disabled = linked
    const own = chosen?.[panel.place] ?? new Set()
    panel.show((face) => look(face, own.has(face.number)), {
      hint: this.#hint(linked, chosen),
      status: views.length ? text("chosen", { chosen: own.size, count: panel.view.faces.length }) : "",
      disabled: linked,
    })
  }

  #hint(linked, chosen) {
    if (!this.views.length) return text("runToSee")
    if (linked) return text("linked", { name: NUMBERS })
    if (!chosen) return text("unreadable", { name: NUMBERS })
    return this.panel.view.image ? "" : text("connectImages")
  }

  get #images() {
    return this.views.map(({ faces }) => faces)
  }

  /** What is written; what comes from a connection only the last run knows. */
  #chosen() {
    if (isLinked(this.node, NUMBERS)) {
      return this.#images.map((faces) => new Set(faces.flatMap(({ kept, number }) => (kept ? [number] : []))))
    }
    return parseNumbers(widgetOf(this.node, NUMBERS).value, this.#images)
  }

  #toggle(number) {
    const chosen = this.#chosen() ?? parseNumbers("", this.#images)
    const own = chosen[this.panel.place]
    if (!own.delete(number)) own.add(number)
    setWidget(this.node, NUMBERS, formatNumbers(chosen, this.#images))
  }

  /** The faces of the image that is shown. */
  #chooseAll(all) {
    const chosen = this.#chosen() ?? parseNumbers("", this.#images)
    chosen[this.panel.place] = new Set(all ? this.panel.view.faces.map(({ number }) => number) : [])
    setWidget(this.node, NUMBERS, formatNumbers(chosen, this.#images))
  }
}

function look(face, pressed) {
  const known = face.similarity !== null
  const value = known ? face.similarity.toFixed(2) : ""
  const words = [
    ...describe(face),
    known && (face.person ? text("similarityTo", { name: face.person, value }) : text("similarity", { value })),
    !face.fits && text("leftOut"),
  ]
  return {
    text: value,
    label: words.filter(Boolean).join(", "),
    pressed,
    verdict: face.fits ? (known ? "good" : "plain") : "bad",
  }
}
