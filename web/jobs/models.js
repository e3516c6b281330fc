/** The models there are, by MODEL_TYPE: which are here, their terms, and downloading those that are not. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { consent } from "./consent.js"
import { bytes } from "./format.js"
import { Refusal, call } from "./server.js"
import { commercial, link } from "./terms.js"

const SIGNS = { found: "pi-check", missing: "pi-times", wrong_size: "pi-exclamation-triangle" }

export class Models {
  #problem
  #admin = false
  #download = { state: "idle", models: [], files: [], errors: [] }
  #list = element("div", {})
  #status = element("div", { class: "flux-face-download", tabindex: -1, hidden: true })
  #said = element("p", { role: "status" })
  #bar = element("progress", { "aria-label": t("doctor.progress") })
  #sizes = element("p", { class: "flux-face-quiet" })
  #errors = element("ul", { class: "flux-face-errors" })
  #cancel = element("button", { type: "button", onclick: () => this.#stop() })

  /** @param {(refusal: unknown) => void} problem told of whatever cannot be shown here */
  constructor(problem) {
    this.#problem = problem
    this.#cancel.append(t("doctor.cancel"))
    this.#status.append(this.#said, this.#bar, this.#sizes, this.#errors, this.#cancel)
    this.element = element("div", {}, this.#status, this.#list)
  }

  /** Show what there is now. @param {boolean} admin whether the caller may download */
  async open(admin) {
    this.#admin = admin
    try {
      if (admin) this.#download = await call("/models/download")
      this.#drawDownload()
      await this.#read()
    } catch (refusal) {
      this.#problem(refusal)
    }
  }

  /** A download goes on, or has ended. @param {object} download as GET /models/download answers */
  async hear(download) {
    const ended = this.#download.state === "running" && download.state !== "running"
    this.#download = download
    this.#drawDownload()
    if (ended) await this.#read().catch(this.#problem)
  }

  /** Forget what is shown: it is another's. */
  clear() {
    this.#list.replaceChildren()
    this.#status.hidden = true
  }

  async #read() {
    const [{ sets, models }, { profiles }] = await Promise.all([call("/models"), call("/profiles")])
    const open = new Set([...this.#list.querySelectorAll("details[open]")].map((set) => set.dataset.set))
    if (open.size === 0) open.add(profiles.find((profile) => profile.default)?.name)
    const focused = this.#list.contains(document.activeElement)
    const byId = new Map(models.map((model) => [model.id, model]))
    const inSets = new Set(Object.values(sets).flat())
    const groups = Object.entries(sets).map(([name, ids]) => [name, name, ids.map((id) => byId.get(id))])
    groups.push(["", t("doctor.others"), models.filter((model) => !inSets.has(model.id))])
    this.#list.replaceChildren(...groups.map(([key, title, rows]) => this.#groupOf(key, title, rows, open.has(key))))
    if (focused) this.#status.focus()
  }

  #groupOf(key, title, models, open) {
    const missing = models.filter((model) => model.state !== "found")
    const count = t("doctor.here", { found: models.length - missing.length, count: models.length })
    return element(
      "details",
      { open, dataset: { set: key } },
      element("summary", {}, element("strong", {}, title), ` ${count}`),
      key && missing.length > 1 && this.#admin
        ? this.#button(t("doctor.downloadAll", { count: missing.length }), `${t("doctor.downloadAll", { count: missing.length })}: ${key}`, missing)
        : null,
      element("ul", { class: "flux-face-models" }, ...models.map((model) => this.#rowOf(model))),
    )
  }

  #rowOf(model) {
    const { id, state, files, download_bytes: size, licence, gated, address } = model
    const label = t(state === "wrong_size" ? "doctor.replace" : "doctor.download")
    return element(
      "li",
      { class: "flux-face-model", dataset: { model: id, state } },
      element(
        "p",
        { class: "flux-face-state" },
        element("i", { class: `pi ${SIGNS[state]}`, "aria-hidden": "true" }),
        t(`doctor.state.${state}`),
        " ",
        element("strong", {}, id),
      ),
      element("ul", {}, ...files.map((file) => element("li", {}, element("code", {}, `models/${file.folder}/${file.name}`)))),
      element("p", {}, `${bytes(size)} · `, link(licence.link, licence.name), ` · ${commercial(licence)}`),
      gated ? element("p", {}, t("doctor.gated")) : null,
      element("p", {}, link(address, t("doctor.source"), `${t("doctor.source")}: ${id}`)),
      state !== "found" && this.#admin ? this.#button(label, `${label} ${id}`, [model]) : null,
    )
  }

  #button(label, description, models) {
    return element(
      "button",
      {
        type: "button",
        "aria-label": description,
        disabled: this.#download.state === "running",
        onclick: () => this.#start(models),
      },
      label,
    )
  }

  async #start(models) {
    const accepted = await consent(models)
    if (!accepted) return
    try {
      const body = {
        models: models.map((model) => model.id),
        accept_licences: accepted,
        replace: models.some((model) => model.state === "wrong_size"),
      }
      await this.hear(await call("/models/download", { method: "POST", body }))
      this.#status.focus()
    } catch (refusal) {
      this.#refused(refusal)
    }
  }

  async #stop() {
    try {
      await call("/models/download/cancel", { method: "POST" })
    } catch (refusal) {
      this.#refused(refusal)
    }
  }

  #refused(refusal) {
    if (!(refusal instanceof Refusal) || refusal.asksForToken || !refusal.code) return this.#problem(refusal)
    this.#status.hidden = false
    this.#errors.replaceChildren(errorOf({ code: refusal.code, model: "", problem: refusal.message, remedy: "" }))
  }

  #drawDownload() {
    const { state, models, files, errors } = this.#download
    const running = state === "running"
    this.#status.hidden = state === "idle"
    const text = t(`doctor.downloadState.${state}`, { models: models.join(", ") })
    // A text that is set anew is read aloud anew.
    if (this.#said.textContent !== text) this.#said.textContent = text
    this.#bar.hidden = !running
    this.#cancel.hidden = !running
    const received = files.reduce((sum, file) => sum + file.received, 0)
    const total = files.every((file) => file.total !== null) ? files.reduce((sum, file) => sum + file.total, 0) : 0
    if (total) {
      this.#bar.max = total
      this.#bar.value = received
    } else {
      this.#bar.removeAttribute("value")
    }
    this.#sizes.textContent = files
      .map((file) => t("doctor.received", { file: file.file, received: bytes(file.received), total: bytes(file.total) }))
      .join(" · ")
    this.#errors.replaceChildren(...errors.map(errorOf))
    for (const button of this.#list.querySelectorAll("button")) button.disabled = running
  }
}

function errorOf({ code, model, problem, remedy }) {
  return element(
    "li",
    { class: "flux-face-error" },
    element("code", {}, code),
    " ",
    element("span", { lang: "en" }, [model && `${model}: `, problem, remedy && `. ${remedy}`].filter(Boolean).join("")),
  )
}
