/** Numbers and times as people of the page's language write them. */
import { language, t } from "../lib/text.js"

/** @param {number} ms */
export function duration(ms) {
  if (ms < 90_000) return unit(ms / 1000, "second", ms < 10_000 ? 1 : 0)
  return `${unit(Math.floor(ms / 60_000), "minute")} ${unit(Math.floor((ms % 60_000) / 1000), "second")}`
}

/** @param {number | null} count of bytes; null where it is unknown */
export function bytes(count) {
  if (count === null) return t("doctor.sizeUnknown")
  if (count >= 1e9) return unit(count / 1e9, "gigabyte", 1)
  if (count >= 1e6) return unit(count / 1e6, "megabyte", 1)
  return unit(count / 1e3, "kilobyte", 1)
}

/** @param {number} seconds since 1970 */
export function time(seconds) {
  return new Intl.DateTimeFormat(language(), { dateStyle: "short", timeStyle: "medium" }).format(seconds * 1000)
}

/** @param {number} value @param {number} digits behind the point */
export function number(value, digits) {
  return new Intl.NumberFormat(language(), { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(
    value,
  )
}

function unit(value, name, digits = 0) {
  const style = { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits }
  return new Intl.NumberFormat(language(), style).format(value)
}
