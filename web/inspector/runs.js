/** Which prompt of this page runs, and how far the nodes are that an expanding node has put in its place. */
import { api } from "../../../scripts/api.js"

const ENDS = ["execution_success", "execution_error", "execution_interrupted"]

let current = null
/** @type {Record<string, any>} */
let states = {}

/**
 * @param {string} run a prompt's id
 * @returns {boolean}
 */
export const isRunning = (run) => run === current

/**
 * How much of its present work is done, 0..1; undefined where that is not known.
 *
 * @param {string} node id of the expanding node
 * @returns {number | undefined}
 */
export function progressOf(node) {
  const inner = Object.values(states).filter(
    (state) => state.display_node_id === node && state.node_id !== node && state.state === "running" && state.max > 1,
  )
  return inner.length ? Math.min(...inner.map((state) => state.value / state.max)) : undefined
}

/**
 * Be told whenever one of the above may have changed.
 *
 * @param {() => void} listener
 */
export function onRunChange(listener) {
  const become = (run, nodes) => {
    current = run
    states = nodes
    listener()
  }
  api.addEventListener("execution_start", ({ detail }) => become(detail.prompt_id, {}))
  // Also after the page was loaded again in the middle of a run.
  api.addEventListener("progress_state", ({ detail }) => become(detail.prompt_id, detail.nodes))
  for (const end of ENDS) api.addEventListener(end, () => become(null, {}))
}
