/** The panel: its two pages, the token where one is needed, and what comes over the web socket. */
import { api } from "../../../scripts/api.js"
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { Doctor } from "./doctor.js"
import { JobList } from "./job_list.js"
import { Refusal, call, forgetToken, hasToken, keepToken } from "./server.js"

const sheet = element("link", { rel: "stylesheet", href: new URL("jobs.css", import.meta.url).href })
document.head.append(sheet)

const PAGES = ["jobs", "doctor"]

/** Made when the side bar shows it, closed when it does not. */
export class Panel {
  #listeners = new AbortController()
  #shown = "jobs"
  /** @type {{caller: string, admin: boolean} | undefined} */
  #me
  #gate = element("div", { class: "flux-face-gate", hidden: true })
  #note = element("p", { class: "flux-face-note", role: "status" })
  #forget = element("button", { type: "button", hidden: true, onclick: () => this.#leave() })
  #tabs = {}
  #pages = {}

  constructor() {
    const problem = (refusal) => this.#refused(refusal)
    this.#pages = { jobs: new JobList(problem), doctor: new Doctor(problem) }
    this.#forget.append(t("jobs.token.forget"))
    const tabs = element("div", { role: "tablist", "aria-label": t("jobs.tab"), onkeydown: (event) => this.#turn(event) })
    for (const name of PAGES) {
      this.#tabs[name] = element(
        "button",
        {
          type: "button",
          role: "tab",
          id: `flux-face-tab-${name}`,
          "aria-controls": `flux-face-page-${name}`,
          onclick: () => this.#show(name),
        },
        t(`${name}.title`),
      )
      const page = this.#pages[name].element
      page.id = `flux-face-page-${name}`
      page.setAttribute("role", "tabpanel")
      page.setAttribute("aria-labelledby", `flux-face-tab-${name}`)
      tabs.append(this.#tabs[name])
    }
    this.element = element(
      "section",
      { class: "flux-face flux-face-panel", "aria-label": t("jobs.tooltip") },
      element("header", {}, tabs, this.#forget),
      this.#note,
      this.#gate,
      ...PAGES.map((name) => this.#pages[name].element),
    )
    this.#listen()
    this.#select("jobs")
    this.#connect()
  }

  /** Stop listening, and let go of the pictures. */
  close() {
    this.#listeners.abort()
    for (const page of Object.values(this.#pages)) page.close()
  }

  #listen() {
    const on = (name, listener) => {
      api.addEventListener(name, listener)
      this.#listeners.signal.addEventListener("abort", () => api.removeEventListener(name, listener))
    }
    on("flux_face.jobs", ({ detail }) => this.#pages.jobs.hear(detail.jobs))
    on("flux_face.download", ({ detail }) => this.#pages.doctor.hear(detail))
    on("reconnecting", () => this.#say(t("jobs.reconnecting")))
    on("reconnected", () => this.#connect())
  }

  /** Ask for events, then for all that they may have told before. */
  async #connect() {
    try {
      this.#me = await call("/watch", { method: "POST", body: { client_id: api.clientId ?? "" } })
    } catch (refusal) {
      this.#refused(refusal)
      return
    }
    if (this.#listeners.signal.aborted) return
    this.#say("")
    this.#gate.hidden = true
    this.#forget.hidden = !hasToken()
    this.#select(this.#shown)
    await this.#pages[this.#shown].open(this.#me)
  }

  #show(name) {
    this.#say("")
    this.#select(name)
    if (this.#me) this.#pages[name].open(this.#me)
  }

  #select(name) {
    this.#shown = name
    for (const other of PAGES) {
      const chosen = other === name
      this.#tabs[other].setAttribute("aria-selected", String(chosen))
      this.#tabs[other].tabIndex = chosen ? 0 : -1
      this.#pages[other].element.hidden = !chosen || !this.#gate.hidden
    }
  }

  #turn(event) {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return
    event.preventDefault()
    const next = PAGES[(PAGES.indexOf(this.#shown) + 1) % PAGES.length]
    this.#show(next)
    this.#tabs[next].focus()
  }

  #refused(refusal) {
    if (!(refusal instanceof Refusal)) throw refusal
    if (refusal.asksForToken) {
      this.#ask().catch((problem) => this.#refused(problem))
    } else if (refusal.code === "client_unknown" || refusal.status === 0) {
      this.#say(t("jobs.reconnecting"))
    } else if (refusal.code === "") {
      this.#say(t("jobs.apiOff", { status: refusal.status }))
    } else {
      this.#say(refusal.message)
    }
  }

  /** For a token: none was sent, or the one that was is not known. Where there are none, say so instead. */
  async #ask() {
    const refused = hasToken()
    forgetToken()
    this.#me = undefined
    this.#forget.hidden = true
    const { security } = await call("/openapi.json")
    this.#say("")
    this.#gate.hidden = false
    this.#select(this.#shown)
    if (!security) {
      this.#gate.replaceChildren(element("p", { role: "alert" }, t("jobs.token.none")))
      return
    }
    const input = element("input", { id: "flux-face-token", type: "password", autocomplete: "off", required: true })
    const form = element(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault()
          keepToken(input.value.trim())
          this.#connect()
        },
      },
      element("p", { role: "alert" }, t(refused ? "jobs.token.refused" : "jobs.token.needed")),
      element("label", { for: "flux-face-token" }, t("jobs.token.label")),
      input,
      element("button", { type: "submit" }, t("jobs.token.use")),
      element("p", { class: "flux-face-quiet" }, t("jobs.token.kept")),
    )
    this.#gate.replaceChildren(form)
    if (refused) input.focus()
  }

  #leave() {
    forgetToken()
    this.#forget.hidden = true
    for (const page of Object.values(this.#pages)) page.clear()
    this.#connect()
  }

  #say(text) {
    this.#note.textContent = text
  }
}
