/** Copying a text. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"

/**
 * A button that copies a text and says so.
 *
 * @param {string} label
 * @param {() => string} text
 * @param {string} [description] names the button where several have one label; begins with the label
 * @returns {HTMLElement}
 */
export function copyButton(label, text, description) {
  const button = element("button", { type: "button", "aria-label": description ?? null }, label)
  button.addEventListener("click", async () => {
    // Pages that are neither https nor of this machine have no clipboard.
    const copied = await (navigator.clipboard?.writeText(text()) ?? Promise.reject()).then(
      () => true,
      () => false,
    )
    button.textContent = t(copied ? "jobs.copied" : "jobs.notCopied")
    setTimeout(() => {
      button.textContent = label
    }, 2000)
  })
  return button
}
