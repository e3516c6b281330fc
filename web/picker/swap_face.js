/**
 * The picker on Swap Face: who goes on which face, written into `by_hand`. It shows itself only where there is a choice:
 * with several faces or several people.
 */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { isLinked, outputOf, pictureUrl, setWidget, widgetOf } from "./graph.js"
import { formatByHand, parseByHand } from "./notation.js"
import { describe, Panel } from "./panel.js"

const BY_HAND = "by_hand"
const NOBODY = 0
/** Lists that are seen without scrolling. */
const ROWS = 3
/** All of them stand out from photographs and carry dark letters. */
const COLOURS = ["#ffcc00", "#00d0ff", "#ff8fc0", "#7dff6a", "#c9a0ff", "#ff9a55"]
const text = (key, values) => t(`picker.${key}`, values)

/** See `attach` in web/face_picker.js for what a picker offers. */
export class SwapFacePicker {
  widgets = [BY_HAND]
  #automatic = element("button", { type: "button", onclick: () => setWidget(this.node, BY_HAND, "") })
  #people = element("ul", { class: "flux-face-picker-people" })
  #rows = element("div", { class: "flux-face-picker-rows" })

  constructor(node) {
    this.node = node
    this.panel = new Panel({
      onChoose: (number) => this.#cycle(number),
      onTurn: () => this.refresh(),
      actions: [this.#automatic],
    })
    this.element = this.panel.element
    this.panel.bar.before(this.#people, this.#rows)
  }

  get views() {
    const views = outputOf(this.node)?.flux_face_faces ?? []
    return this.#names.length > 1 || views.some(({ faces }) => faces.length > 1) ? views : []
  }

  get minHeight() {
    if (this.element.hidden) return 0
    return this.panel.height(Math.min(this.#rows.childElementCount, ROWS) + (this.#people.hidden ? 0 : 1.5))
  }

  refresh() {
    const { panel, views } = this
    this.element.hidden = !views.length && !this.#waits
    panel.views = views
    const linked = isLinked(this.node, BY_HAND)
    const people = this.#assigned()
    const own = people?.[panel.place] ?? new Map()
    this.#automatic.textContent = text("automatic")
    this.#automatic.hidden = linked || !widgetOf(this.node, BY_HAND).value.trim()
    panel.show((face) => this.#look(face, own.get(face.number) ?? NOBODY), {
      hint: this.#hint(linked, people),
      status: this.#status(people),
      disabled: linked,
    })
    this.#drawPeople()
    this.#drawRows(own, linked)
  }

  /** A group is connected, and has not been run yet. */
  get #waits() {
    return !outputOf(this.node)?.flux_face_faces && isLinked(this.node, "identity")
  }

  #hint(linked, people) {
    if (!this.views.length) return this.#waits ? text("runToAssign") : ""
    if (linked) return text("linked", { name: BY_HAND })
    return people ? "" : text("unreadable", { name: BY_HAND })
  }

  #status(people) {
    if (!people) return ""
    const before = JSON.stringify(this.#ran.map((own) => [...own]))
    const now = this.views.map(({ faces }, place) =>
      faces.flatMap(({ number }) => (people[place].has(number) ? [[number, people[place].get(number)]] : [])),
    )
    if (JSON.stringify(now) !== before) return text("stale")
    return widgetOf(this.node, BY_HAND).value.trim() ? text("byHand") : text("byRule")
  }

  get #persons() {
    return outputOf(this.node)?.flux_face_people ?? []
  }

  get #names() {
    return this.#persons.map(({ name }) => name)
  }

  /** Who went where in the last run. */
  get #ran() {
    return this.views.map(
      ({ faces }) => new Map(faces.filter(({ person }) => person).map(({ number, person }) => [number, person])),
    )
  }

  /** Who goes where: as written, else as the last run decided; null where what is written cannot be read. */
  #assigned() {
    const { value } = widgetOf(this.node, BY_HAND)
    return value.trim() && !isLinked(this.node, BY_HAND) ? parseByHand(value, this.views.length, this.#names) : this.#ran
  }

  #assign(number, person) {
    const people = (this.#assigned() ?? this.#ran).map((own) => new Map(own))
    const own = people[this.panel.place]
    if (person === NOBODY) own.delete(number)
    else own.set(number, person)
    setWidget(this.node, BY_HAND, formatByHand(people, this.#names))
  }

  /** From nobody through all people, and round again. */
  #cycle(number) {
    const person = (this.#assigned() ?? this.#ran)[this.panel.place].get(number) ?? NOBODY
    this.#assign(number, (person + 1) % (this.#persons.length + 1))
  }

  #name(person) {
    if (person === NOBODY) return text("nobody")
    return this.#names[person - 1] || text("person", { number: person })
  }

  #look(face, person) {
    const same = person !== NOBODY && person === face.person
    const value = same ? face.similarity.toFixed(2) : ""
    const name = this.#name(person)
    const words = [...describe(face), text("becomes", { name }), same && text("similarity", { value })]
    return {
      text: person === NOBODY ? "" : `→ ${name} ${value}`.trim(),
      label: words.filter(Boolean).join(", "),
      pressed: person !== NOBODY,
      colour: person === NOBODY ? undefined : colourOf(person),
    }
  }

  #drawPeople() {
    const items = this.#persons.map(({ image }, place) => {
      const person = place + 1
      const url = pictureUrl(image)
      const item = element(
        "li",
        {},
        url && element("img", { src: url, alt: "", onerror: (event) => event.target.remove() }),
        element("span", { class: "flux-face-picker-person" }, `${person}`),
        this.#names[place] || text("person", { number: person }),
      )
      item.style.setProperty("--flux-face-colour", colourOf(person))
      return item
    })
    this.#people.hidden = !this.views.length || items.length < 2
    this.#people.setAttribute("aria-label", text("people"))
    this.#people.replaceChildren(...items)
  }

  /** A list for each face, for those who would rather choose than click through. */
  #drawRows(own, linked) {
    const numbers = (this.panel.view?.faces ?? []).map(({ number }) => number).sort((a, b) => a - b)
    this.#rows.hidden = !numbers.length
    const persons = [NOBODY, ...this.#persons.map((_, place) => place + 1)]
    const focused = this.#rows.contains(document.activeElement) && document.activeElement.dataset.number
    this.#rows.replaceChildren(
      ...numbers.map((number) => {
        const options = persons.map((person) =>
          element("option", { value: person, selected: person === (own.get(number) ?? NOBODY) }, this.#name(person)),
        )
        const list = element(
          "select",
          {
            dataset: { number },
            disabled: linked,
            onchange: (event) => this.#assign(number, Number(event.target.value)),
          },
          ...options,
        )
        return element("label", {}, text("face", { number }), list)
      }),
    )
    if (focused) this.#rows.querySelector(`[data-number="${focused}"]`)?.focus()
  }
}

function colourOf(person) {
  return COLOURS[(person - 1) % COLOURS.length]
}
