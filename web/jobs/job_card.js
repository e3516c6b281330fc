/** One job of the list: its state, how far it is, its pictures with their verdicts, and what can be done with it. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { copyButton } from "./copy.js"
import { duration, number, time } from "./format.js"
import { Refusal, call, picture } from "./server.js"

const SIGNS = {
  IN_QUEUE: "pi-clock",
  IN_PROGRESS: "pi-play",
  COMPLETED: "pi-check",
  FAILED: "pi-times",
  CANCELLED: "pi-ban",
  TIMED_OUT: "pi-stopwatch",
}
const STOPPABLE = ["IN_QUEUE", "IN_PROGRESS"]
const REPEATABLE = ["FAILED", "TIMED_OUT"]

/** Cards that have come into sight: only these ask for their pictures. */
const sights = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) cards.get(entry.target)?.seen()
})
/** @type {WeakMap<Element, JobCard>} */
const cards = new WeakMap()

export class JobCard {
  #id
  #problem
  #job = { status: "" }
  #inSight = false
  /** What the pictures were asked for: a job that runs again has others. */
  #detailed = ""
  #addresses = []
  #state = element("span", { class: "flux-face-state" })
  #profile = element("span", { class: "flux-face-profile" })
  #time = element("time", { class: "flux-face-quiet" })
  #progress = element("div", { class: "flux-face-progress" })
  #facts = element("p", { class: "flux-face-quiet" })
  #pictures = element("ul", { class: "flux-face-pictures", hidden: true })
  #error = element("p", { class: "flux-face-error", hidden: true })
  #buttons = element("div", { class: "flux-face-row" })

  /**
   * @param {{id: string, profile: string, created: number}} job
   * @param {(refusal: unknown) => void} problem told of refusals that are not about this job
   */
  constructor(job, problem) {
    this.#id = job.id
    this.#problem = problem
    this.#profile.textContent = job.profile
    this.element = element(
      "li",
      { class: "flux-face-job", tabindex: -1, "aria-label": t("jobs.job", { id: this.#name }), dataset: { id: job.id } },
      element("div", { class: "flux-face-head" }, this.#state, this.#profile, this.#time),
      this.#progress,
      this.#facts,
      this.#error,
      this.#pictures,
      element("code", { class: "flux-face-id" }, job.id),
      this.#buttons,
    )
    cards.set(this.element, this)
    sights.observe(this.element)
  }

  get status() {
    return this.#job.status
  }

  /** Short enough to be read aloud. */
  get #name() {
    return this.#id.slice(0, 8)
  }

  /** @param {Record<string, any>} job as GET /jobs lists it */
  show(job) {
    const before = this.#job.status
    this.#job = job
    this.#time.textContent = time(job.created)
    this.progress({ ...job.progress, position: job.position })
    const facts = [t("jobs.waited", { time: duration(job.delayTime) })]
    if (job.executionTime !== undefined) facts.push(t("jobs.ran", { time: duration(job.executionTime) }))
    this.#facts.textContent = facts.join(" · ")
    this.#facts.hidden = STOPPABLE.includes(job.status)
    this.#showError(job.status === "CANCELLED" ? "" : (job.error ?? ""))
    if (job.status !== before) this.#changeState(job.status)
    this.seen(this.#inSight)
  }

  /**
   * How far it is.
   *
   * @param {{position?: number, attempt?: number, value?: number, max?: number}} at
   */
  progress({ position, attempt, value, max }) {
    const texts = []
    if (this.status === "IN_QUEUE") texts.push(position ? t("jobs.position", { count: position }) : t("jobs.next"))
    if (this.status === "IN_PROGRESS") {
      if (attempt !== undefined) texts.push(t("jobs.attempt", { attempt }))
      if (max !== undefined) texts.push(t("jobs.step", { value, max }))
    }
    const bar =
      this.status === "IN_PROGRESS" &&
      element("progress", { "aria-label": t("jobs.progress", { id: this.#name }), max: max ?? null, value: value ?? null })
    this.#progress.replaceChildren(texts.join(" · "), ...(bar ? [bar] : []))
    this.#progress.hidden = !STOPPABLE.includes(this.status)
  }

  /** Now its pictures are worth asking for. @param {boolean} inSight */
  seen(inSight = true) {
    this.#inSight = inSight
    if (!inSight || this.status !== "COMPLETED" || this.#detailed) return
    this.#detailed = this.status
    this.#readPictures().catch((refusal) => this.#refused(refusal))
  }

  remove() {
    sights.unobserve(this.element)
    this.#dropPictures()
    this.element.remove()
  }

  #changeState(status) {
    this.element.dataset.state = status
    this.#state.replaceChildren(
      element("i", { class: `pi ${SIGNS[status]}`, "aria-hidden": "true" }),
      t(`jobs.state.${status}`),
    )
    if (status !== "COMPLETED") this.#dropPictures()
    const focused = this.#buttons.contains(document.activeElement)
    const button = (name, path) =>
      element(
        "button",
        { type: "button", "aria-label": `${t(`jobs.${name}`)} ${this.#name}`, onclick: (event) => this.#ask(path, event) },
        t(`jobs.${name}`),
      )
    this.#buttons.replaceChildren(
      ...(STOPPABLE.includes(status) ? [button("cancel", "/cancel/")] : []),
      ...(REPEATABLE.includes(status) ? [button("retry", "/retry/")] : []),
      copyButton(t("jobs.copyId"), () => this.#id, `${t("jobs.copyId")} ${this.#name}`),
    )
    if (focused) this.element.focus()
  }

  async #ask(path, event) {
    event.target.disabled = true
    try {
      await call(path + this.#id, { method: "POST" })
    } catch (refusal) {
      this.#refused(refusal)
    } finally {
      event.target.disabled = false
    }
  }

  #refused(refusal) {
    if (refusal instanceof Refusal && refusal.code && !refusal.asksForToken) {
      this.#showError(`[${refusal.code}] ${refusal.message}`)
    } else {
      this.#problem(refusal)
    }
  }

  /** The server's own words, with their code in front. */
  #showError(text) {
    const [, code, rest] = /^\[(\w+)\] (.*)$/s.exec(text) ?? []
    this.#error.hidden = !text
    this.#error.replaceChildren(
      ...(code ? [element("code", {}, code), " ", element("span", { lang: "en" }, rest)] : [text]),
    )
  }

  async #readPictures() {
    const { output, error } = await call(`/status/${this.#id}?images_as=url`)
    if (error) this.#showError(error)
    if (!output) return
    const verdicts = output.qa ?? []
    const count = Math.max(output.images?.length ?? 0, verdicts.length)
    const rows = Array.from({ length: count }, (_, index) => {
      const image = output.images?.[index]
      const frame = element("div", { class: "flux-face-frame" })
      const attempt = output.retry?.items?.[index]?.attempt
      const seed = output.seeds?.[index]
      const facts = [
        ...(attempt ? [t("jobs.attempt", { attempt })] : []),
        ...(seed === undefined ? [] : [t("jobs.seed", { seed })]),
      ]
      const item = element(
        "li",
        {},
        image ? frame : null,
        element(
          "div",
          {},
          verdicts[index] ? verdictOf(verdicts[index]) : null,
          facts.length ? element("p", { class: "flux-face-quiet" }, facts.join(" · ")) : null,
        ),
      )
      return { item, image, frame, label: t("jobs.picture", { number: index + 1, count }) }
    })
    this.#pictures.replaceChildren(...rows.map((row) => row.item))
    this.#pictures.hidden = count === 0
    for (const { image, frame, label } of rows) if (image) await this.#load(image, frame, label)
  }

  async #load(image, frame, label) {
    let source = image.data
    if (image.type === "url") {
      const file = await picture(image.data)
      if (!this.element.isConnected || this.status !== "COMPLETED") return
      source = URL.createObjectURL(file)
      this.#addresses.push(source)
    }
    frame.replaceChildren(
      element(
        "a",
        { href: source, target: "_blank", rel: "noopener noreferrer", title: t("jobs.openPicture") },
        element("img", { src: source, alt: label, loading: "lazy", referrerpolicy: "no-referrer" }),
      ),
    )
  }

  #dropPictures() {
    for (const source of this.#addresses) URL.revokeObjectURL(source)
    this.#addresses = []
    this.#detailed = ""
    this.#pictures.replaceChildren()
    this.#pictures.hidden = true
  }
}

/** A verdict's sign, word, score and reasons. */
function verdictOf({ passed, score, reasons }) {
  const word = t(passed ? "jobs.passed" : "jobs.failed", { score: number(score, 2) })
  return element(
    "div",
    { class: "flux-face-verdict", dataset: { passed: String(passed) } },
    element("p", {}, element("i", { class: `pi ${passed ? "pi-check" : "pi-times"}`, "aria-hidden": "true" }), word),
    reasons.length > 0 && element("ul", { lang: "en" }, ...reasons.map((reason) => element("li", {}, reason.message))),
  )
}
