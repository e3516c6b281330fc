/** A model's terms and addresses. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"

/** @param {{commercial: string}} licence @returns {string} whether it allows paid work */
export function commercial(licence) {
  return t(`doctor.commercial.${licence.commercial}`)
}

/** @returns {HTMLElement} a link that leaves the page */
export function link(href, text, description) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer", "aria-label": description ?? null }, text)
}
