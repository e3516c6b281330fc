/** Retry Failed Images: every attempt at every image, and which attempt runs. */
import { element } from "../lib/dom.js"
import { picture, verdictMark } from "./parts.js"
import { isRunning, progressOf } from "./runs.js"
import { scoreText, words } from "./words.js"

/**
 * @typedef {{seed: string, passed: boolean, score: number, reasons: object[], picture: ?object}} Attempt
 * @typedef {{kept: number, attempts: Attempt[]}} Item
 * @typedef {{run: string, node: string, attempt: number, max_attempts: number, running: boolean, items: Item[]}} Loop
 *
 * @param {{flux_face_attempts?: Loop[]}} output of the node
 * @returns {?Node[]} null where the output has no attempts
 */
export function attemptStrip(output) {
  const loop = output.flux_face_attempts?.[0]
  if (!loop) return null
  const status = element("div", { class: "flux-face-status", role: "status" })
  drawStatus(status, loop)
  return [status, ...loop.items.map(attemptsAt)]
}

/**
 * Bring the line that says which attempt runs up to date.
 *
 * @param {HTMLElement} root what holds the strip
 * @param {{flux_face_attempts?: Loop[]}} output that it shows
 */
export function updateAttempt(root, output) {
  const status = root.querySelector('[role="status"]')
  if (status) drawStatus(status, output.flux_face_attempts[0])
}

function drawStatus(status, loop) {
  const text = statusText(loop)
  // Said again, a screen reader would read it again.
  if (status.firstElementChild?.textContent !== text) status.replaceChildren(element("span", {}, text))
  status.querySelector("progress")?.remove()
  if (loop.running && isRunning(loop.run)) {
    status.append(element("progress", { "aria-label": words("attempts.progress"), value: progressOf(loop.node) }))
  }
}

function statusText(loop) {
  const count = loop.items.length
  const failed = loop.items.filter((item) => !item.attempts[item.kept].passed).length
  if (!loop.running) {
    const sampled = loop.items.reduce((sum, item) => sum + item.attempts.length, 0)
    return words("attempts.done", { passed: count - failed, count, sampled })
  }
  const values = { attempt: loop.attempt + 1, max: loop.max_attempts, failed, count }
  return words(isRunning(loop.run) ? "attempts.running" : "attempts.stopped", values)
}

function attemptsAt(item, index) {
  const name = words("image", { number: index + 1 })
  return element(
    "section",
    { class: "flux-face-item", "aria-label": name },
    element("span", {}, name),
    element(
      "ol",
      { tabindex: "0", "aria-label": words("attempts.of", { image: name }) },
      ...item.attempts.map((attempt, number) => attemptCard(attempt, number, number === item.kept)),
    ),
  )
}

function attemptCard(attempt, number, kept) {
  const reasons = [...new Set(attempt.reasons.map(({ code }) => words(`reasons.${code}`)))]
  return element(
    "li",
    { class: "flux-face-attempt", dataset: { passed: attempt.passed, kept } },
    attempt.picture && picture(attempt.picture, ""),
    element("span", {}, words("attempts.number", { number: number + 1 })),
    verdictMark(attempt.passed),
    element("span", {}, words("score", { score: scoreText(attempt.score) })),
    element("span", { class: "flux-face-seed" }, words("attempts.seed", { seed: attempt.seed })),
    ...reasons.map((reason) => element("span", { class: "flux-face-reason" }, reason)),
    kept && element("strong", { class: "flux-face-kept" }, words("attempts.kept")),
  )
}
