/**
 * What the pickers ask of ComfyUI's graph. Nodes are looked up in their own graph, which may be a subgraph's.
 */
import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

/** @type {WeakMap<object, Record<string, any>>} */
const restored = new WeakMap()
/** Workflows whose last run has been asked for. */
const asked = new Set()

/** Every node of the workflow, those of subgraphs too. */
export function allNodes() {
  const root = app.rootGraph
  return root ? [root, ...(root.subgraphs?.values() ?? [])].flatMap((graph) => graph.nodes) : []
}

/**
 * The node's last UI output.
 *
 * @param {object} node
 * @returns {Record<string, any> | undefined}
 */
export function outputOf(node) {
  return app.nodeOutputs?.[locatorOf(node)] ?? restored.get(node)
}

/** What ComfyUI calls a node across graphs: its id, in a subgraph after the subgraph's. */
export function locatorOf({ graph, id }) {
  return graph && graph !== app.rootGraph ? `${graph.id}:${id}` : String(id)
}

/**
 * Fetches what the workflow's last run gave, which the page forgets when it is loaded anew and the server does not.
 *
 * @returns {Promise<boolean>} whether there was anything
 */
export async function restoreOutputs() {
  const workflow = app.rootGraph?.id
  if (!workflow || asked.has(workflow)) return false
  asked.add(workflow)
  const query = new URLSearchParams({ workflow_id: workflow, status: "completed", limit: "1" })
  const list = await api.fetchApi(`/jobs?${query}`)
  const [job] = list.ok ? (await list.json()).jobs : []
  const answer = job && (await api.fetchApi(`/jobs/${job.id}`))
  if (!answer?.ok) return false
  for (const [id, output] of Object.entries((await answer.json()).outputs ?? {})) {
    const node = nodeAt(id)
    if (node) restored.set(node, output)
  }
  return true
}

/** The node of an execution id such as `12:5`, node 5 in the subgraph that node 12 is. */
function nodeAt(id) {
  const [first, ...rest] = id.split(":")
  return rest.reduce((outer, inner) => outer?.subgraph?.getNodeById(inner), app.rootGraph.getNodeById(first))
}

/** The node's widget of this name. */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)
}

/**
 * Whether an input has a link, so that its widget does not count.
 *
 * @param {object} node
 * @param {string} name
 */
export function isLinked(node, name) {
  const link = node.inputs?.find((input) => input.name === name || input.widget?.name === name)?.link
  return link !== null && link !== undefined
}

/**
 * Gives a widget a value, as one step that can be undone.
 *
 * @param {object} node
 * @param {string} name
 * @param {string} value
 */
export function setWidget(node, name, value) {
  const widget = widgetOf(node, name)
  app.canvas.emitBeforeChange()
  widget.value = value
  widget.callback?.(value, app.canvas, node)
  node.graph?.setDirtyCanvas(true, true)
  app.canvas.emitAfterChange()
}

/**
 * Where a picture that a node has shown can be fetched.
 *
 * @param {{ filename: string, subfolder: string, type: string } | null} reference
 * @returns {string | null}
 */
export function pictureUrl(reference) {
  if (!reference) return null
  const { filename, subfolder, type } = reference
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
}
