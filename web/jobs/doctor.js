/** What the doctor finds on the server's machine, and its models. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { Models } from "./models.js"
import { call } from "./server.js"

const SIGNS = { ok: "pi-check", warn: "pi-exclamation-triangle", fail: "pi-times" }

export class Doctor {
  #problem
  #opened = false
  #admin = false
  #models
  #summary = element("p", { class: "flux-face-note", role: "status" })
  #findings = element("ul", { class: "flux-face-findings" })
  #again = element("button", { type: "button", onclick: () => this.#look() })

  /** @param {(refusal: unknown) => void} problem told of whatever cannot be shown here */
  constructor(problem) {
    this.#problem = problem
    this.#models = new Models(problem)
    this.#again.append(t("doctor.again"))
    this.element = element(
      "div",
      {},
      element("div", { class: "flux-face-row" }, element("h2", {}, t("doctor.checks")), this.#again),
      this.#summary,
      this.#findings,
      element("h2", {}, t("doctor.models")),
      this.#models.element,
    )
  }

  /** Look, which takes seconds, unless that was done before. @param {{admin: boolean}} caller */
  open({ admin }) {
    const known = this.#opened && this.#admin === admin
    this.#opened = true
    this.#admin = admin
    return Promise.all([known ? undefined : this.#look(), this.#models.open(admin)])
  }

  /** @param {object} download as GET /models/download answers */
  hear(download) {
    this.#models.hear(download)
  }

  /** Forget what is shown: it is another's. */
  clear() {
    this.#opened = false
    this.#findings.replaceChildren()
    this.#models.clear()
  }

  close() {
    this.clear()
  }

  async #look() {
    this.#again.hidden = !this.#admin
    if (!this.#admin) {
      this.#summary.textContent = t("doctor.adminsOnly")
      return
    }
    this.#again.disabled = true
    this.#summary.textContent = t("doctor.looking")
    try {
      const { healthy, findings } = await call("/doctor")
      this.#summary.textContent = t(healthy ? "doctor.healthy" : "doctor.unwell")
      this.#findings.replaceChildren(...findings.map(rowOf))
    } catch (refusal) {
      this.#summary.textContent = ""
      this.#problem(refusal)
    } finally {
      this.#again.disabled = false
    }
  }
}

function rowOf({ name, level, what, remedy }) {
  return element(
    "li",
    { class: "flux-face-finding", dataset: { level } },
    element(
      "p",
      { class: "flux-face-state" },
      element("i", { class: `pi ${SIGNS[level]}`, "aria-hidden": "true" }),
      t(`doctor.level.${level}`),
      " ",
      element("strong", { lang: "en" }, name),
    ),
    element("p", { lang: "en" }, what),
    remedy ? element("p", {}, element("strong", {}, t("doctor.remedy")), " ", element("span", { lang: "en" }, remedy)) : null,
  )
}
