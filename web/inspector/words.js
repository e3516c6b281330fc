/** Numbers and reasons as the page's language writes them. */
import { language, t } from "../lib/text.js"

const PERCENT = new Set(["seen", "burnt_share", "crushed_share", "variation"])
const WHOLE = new Set(["pixels", "faces"])

/** @param {string} key below `fluxFace.inspector` */
export const words = (key, values) => t(`inspector.${key}`, values)

/**
 * A score with two digits, never rounded up to a pass.
 *
 * @param {number} score 0..1
 */
export function scoreText(score) {
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2 }
  return new Intl.NumberFormat(language(), digits).format(Math.floor(score * 100 + 1e-6) / 100)
}

/**
 * What was measured against its limit, such as "lightness: 3.2, at least 4".
 *
 * @param {{quantity: string, measured: ?number, low: ?number, high: ?number}} reason
 * @returns {string} empty where nothing was measured
 */
export function measuredText({ quantity, measured, low, high }) {
  if (!quantity || measured === null) return ""
  const number = (value) => numberText(value, quantity)
  const values = { quantity: words(`quantities.${quantity}`), value: number(measured) }
  if (low !== null && low === high) return words("limits.exact", { ...values, limit: number(low) })
  if (low !== null) return words("limits.low", { ...values, limit: number(low) })
  return words("limits.high", { ...values, limit: number(high) })
}

function numberText(value, quantity) {
  const style = PERCENT.has(quantity) ? "percent" : "decimal"
  const digits = WHOLE.has(quantity) ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 }
  return new Intl.NumberFormat(language(), { style, ...digits }).format(value)
}
