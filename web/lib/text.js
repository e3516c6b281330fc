/**
 * The pack's own words in the page's language: `fluxFace` of locales/<language>/main.json, which ComfyUI serves.
 */
import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const FALLBACK = "en"

/** @type {Record<string, any>} */
let messages = {}

/** Fetch the words once; to be awaited before `t` is used. */
export const textReady = (async () => {
  const answer = await api.fetchApi("/i18n")
  if (!answer.ok) throw new Error(`Flux Face: the translations cannot be read (HTTP ${answer.status})`)
  messages = await answer.json()
})()

/** The page's language, such as `ja`. */
export function language() {
  return app.extensionManager.setting.get("Comfy.Locale") ?? FALLBACK
}

/**
 * A text in the page's language, else in English.
 *
 * @param {string} key dotted, below `fluxFace`
 * @param {Record<string, string | number>} [values] for the places in braces: `{count} faces`
 * @returns {string} the key itself where nothing is written for it
 */
export function t(key, values = {}) {
  const text = lookUp(language(), key) ?? lookUp(FALLBACK, key) ?? key
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole))
}

/**
 * What nodeDefs.json says of one of the pack's nodes in the page's language.
 *
 * @param {string} node its class
 * @param {...string} path such as `inputs`, `order`, `options`
 * @returns {any} undefined where nothing is written
 */
export function nodeText(node, ...path) {
  return path.reduce((part, name) => part?.[name], messages[language()]?.nodeDefs?.[node])
}

function lookUp(locale, key) {
  const found = key.split(".").reduce((part, name) => part?.[name], messages[locale]?.fluxFace)
  return typeof found === "string" ? found : undefined
}
