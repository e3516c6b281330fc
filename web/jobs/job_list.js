/** A page of jobs, the newest first, kept as the server's events say. */
import { app } from "../../../scripts/app.js"
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { copyButton } from "./copy.js"
import { JobCard } from "./job_card.js"
import { address, call, hasToken } from "./server.js"

const PAGE_SIZE = 20
const FILTERS = {
  all: "",
  unfinished: "IN_QUEUE,IN_PROGRESS",
  completed: "COMPLETED",
  failed: "FAILED,TIMED_OUT",
  cancelled: "CANCELLED",
}

export class JobList {
  /** @type {Map<string, JobCard>} */
  #cards = new Map()
  #offset = 0
  #admin = false
  #problem
  #reading = false
  #readAgain = false
  #closed = false
  #list = element("ul", { class: "flux-face-jobs", tabindex: -1, "aria-label": t("jobs.list") })
  #empty = element("div", { class: "flux-face-empty", hidden: true })
  #news = element("p", { class: "flux-face-note", role: "status" })
  #filter = element("select", {
    id: "flux-face-filter",
    onchange: () => this.#turn(0),
    // Letters choose here; ComfyUI has shortcuts on them.
    onkeydown: (event) => event.stopPropagation(),
  })
  #newer = element("button", { type: "button", onclick: () => this.#turn(this.#offset - PAGE_SIZE) })
  #older = element("button", { type: "button", onclick: () => this.#turn(this.#offset + PAGE_SIZE) })
  #pager

  /** @param {(refusal: unknown) => void} problem told of whatever cannot be shown here */
  constructor(problem) {
    this.#problem = problem
    for (const name of Object.keys(FILTERS)) this.#filter.append(new Option(t(`jobs.filter.${name}`), name))
    this.#newer.append(t("jobs.newer"))
    this.#older.append(t("jobs.older"))
    this.#pager = element(
      "nav",
      { class: "flux-face-row", "aria-label": t("jobs.pages"), hidden: true },
      this.#newer,
      this.#older,
    )
    this.element = element(
      "div",
      {},
      element(
        "div",
        { class: "flux-face-row" },
        element("label", { for: "flux-face-filter" }, t("jobs.filter.label")),
        this.#filter,
        element("button", { type: "button", onclick: () => this.#purge() }, t("jobs.purge")),
      ),
      this.#news,
      this.#list,
      this.#empty,
      this.#pager,
    )
  }

  /** Show what there is now. @param {{admin: boolean}} caller */
  open({ admin }) {
    this.#admin = admin
    return this.#read()
  }

  /** Forget what is shown: it is another's. */
  clear() {
    this.#offset = 0
    this.#draw([])
    this.#empty.hidden = true
  }

  close() {
    this.#closed = true
    this.clear()
  }

  /**
   * News of jobs.
   *
   * @param {{id: string, status: string, position?: number, attempt?: number, value?: number, max?: number}[]} events
   */
  hear(events) {
    for (const event of events) {
      const card = this.#cards.get(event.id)
      if (card?.status === event.status) {
        card.progress(event)
      } else {
        if (card) this.#news.textContent = t("jobs.news", { id: event.id.slice(0, 8), state: t(`jobs.state.${event.status}`) })
        this.#read()
      }
    }
  }

  async #read() {
    if (this.#reading) {
      this.#readAgain = true
      return
    }
    this.#reading = true
    this.#list.setAttribute("aria-busy", "true")
    try {
      do {
        this.#readAgain = false
        const states = FILTERS[this.#filter.value]
        const query = `limit=${PAGE_SIZE + 1}&offset=${this.#offset}${states && `&state=${states}`}`
        const { jobs } = await call(`/jobs?${query}`)
        if (this.#closed) return
        if (!this.#readAgain) this.#draw(jobs)
      } while (this.#readAgain)
    } catch (refusal) {
      this.#problem(refusal)
    } finally {
      this.#reading = false
      this.#list.removeAttribute("aria-busy")
    }
  }

  #draw(jobs) {
    const shown = jobs.slice(0, PAGE_SIZE)
    const kept = new Set(shown.map((job) => job.id))
    for (const [id, card] of this.#cards) {
      if (kept.has(id)) continue
      if (card.element.contains(document.activeElement)) this.#list.focus()
      card.remove()
      this.#cards.delete(id)
    }
    shown.forEach((job, place) => {
      let card = this.#cards.get(job.id)
      if (!card) {
        card = new JobCard(job, (refusal) => this.#problem(refusal))
        this.#cards.set(job.id, card)
      }
      card.show(job)
      // Moving an element that is in its place already would take the focus from it.
      if (this.#list.children[place] !== card.element) this.#list.insertBefore(card.element, this.#list.children[place])
    })
    this.#newer.disabled = this.#offset === 0
    this.#older.disabled = jobs.length <= PAGE_SIZE
    this.#pager.hidden = this.#newer.disabled && this.#older.disabled
    this.#empty.hidden = shown.length > 0
    if (shown.length === 0) this.#drawEmpty()
  }

  #drawEmpty() {
    if (this.#filter.value !== "all" || this.#offset > 0) {
      this.#empty.replaceChildren(element("p", {}, t("jobs.noneHere")))
      return
    }
    const token = hasToken() ? ' -H "Authorization: Bearer $TOKEN"' : ""
    const command =
      `curl -sS ${address("/run")}${token}` +
      ` -F 'input={"profile": "starter", "prompt": "portrait of a smiling woman"}' -F user_photo=@me.jpg`
    this.#empty.replaceChildren(
      element("p", {}, t("jobs.none")),
      element("p", {}, t("jobs.submit")),
      element("pre", { tabindex: 0, "aria-label": t("jobs.command") }, command),
      copyButton(t("jobs.copyCommand"), () => command),
      element("p", {}, element("a", { href: address("/docs"), target: "_blank", rel: "noopener" }, t("jobs.docs"))),
    )
  }

  #turn(offset) {
    this.#offset = Math.max(0, offset)
    return this.#read()
  }

  async #purge() {
    const sure = await app.extensionManager.dialog.confirm({
      title: t("jobs.purge"),
      message: t(this.#admin ? "jobs.purgeAll" : "jobs.purgeYours"),
    })
    if (!sure) return
    try {
      const { removed } = await call("/purge-queue", { method: "POST" })
      this.#news.textContent = t("jobs.purged", { count: removed })
      await this.#read()
    } catch (refusal) {
      this.#problem(refusal)
    }
  }
}
