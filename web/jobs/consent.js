/** The question before a download: what comes, how much, from where, and under which terms. */
import { element } from "../lib/dom.js"
import { t } from "../lib/text.js"
import { bytes } from "./format.js"
import { commercial, link } from "./terms.js"

/**
 * Ask whether to download models. ComfyUI's own confirmation has no place for a licence that must be accepted.
 *
 * @param {Record<string, any>[]} models as GET /models lists them
 * @returns {Promise<string[] | null>} keys of the licences that were accepted; null for no
 */
export function consent(models) {
  const licences = new Map(
    models.filter((model) => model.must_be_accepted).map(({ licence }) => [licence.key, licence]),
  )
  const boxes = [...licences.values()].map((licence) => {
    const box = element("input", { type: "checkbox", value: licence.key, onchange: () => decide() })
    return { box, row: element("label", {}, box, " ", t("doctor.accept", { licence: licence.name })) }
  })
  const yes = element("button", { type: "submit", value: "yes", class: "flux-face-primary" }, t("doctor.download"))
  const decide = () => {
    yes.disabled = boxes.some(({ box }) => !box.checked)
  }
  decide()
  const overwritten = models.some((model) => model.state === "wrong_size")
  const dialog = element(
    "dialog",
    {
      class: "flux-face flux-face-dialog",
      "aria-labelledby": "flux-face-consent",
      // ComfyUI's shortcuts, the one on Escape too, are not for what lies above its page.
      onkeydown: (event) => event.stopPropagation(),
    },
    element(
      "form",
      { method: "dialog" },
      element("h2", { id: "flux-face-consent" }, t("doctor.ask", { count: models.length, size: sizeOf(models) })),
      element("ul", { class: "flux-face-models", tabindex: 0, "aria-label": t("doctor.models") }, ...models.map(rowOf)),
      overwritten ? element("p", {}, t("doctor.overwrites")) : null,
      ...boxes.map(({ row }) => row),
      element(
        "div",
        { class: "flux-face-row" },
        element("button", { type: "submit", value: "no", autofocus: true }, t("doctor.dontDownload")),
        yes,
      ),
    ),
  )
  document.body.append(dialog)
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove()
      resolve(dialog.returnValue === "yes" ? [...licences.keys()] : null)
    })
  })
}

/** Of all together, as far as it is known. */
function sizeOf(models) {
  const known = models.map((model) => model.download_bytes).filter((size) => size !== null)
  if (known.length === 0) return bytes(null)
  const total = bytes(known.reduce((sum, size) => sum + size))
  return known.length === models.length ? total : t("doctor.atLeast", { size: total })
}

function rowOf({ id, files, download_bytes: size, licence, address }) {
  return element(
    "li",
    { class: "flux-face-model" },
    element("p", {}, element("strong", {}, id), ` · ${bytes(size)}`),
    ...files.map((file) => element("p", {}, element("code", {}, `models/${file.folder}/${file.name}`))),
    element("p", {}, link(licence.link, licence.name), ` · ${commercial(licence)}`),
    element("p", {}, link(address, address)),
  )
}
