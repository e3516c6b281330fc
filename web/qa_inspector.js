/** What the quality nodes have found, on the nodes: verdicts, attempts, and before and after. */
import { app } from "../../scripts/app.js"
import { attemptStrip, updateAttempt } from "./inspector/attempt_strip.js"
import { compare } from "./inspector/compare.js"
import { Panel } from "./inspector/panel.js"
import { onRunChange } from "./inspector/runs.js"
import { verdictCards } from "./inspector/verdict_cards.js"
import { element } from "./lib/dom.js"

const OUTPUT = "FluxFaceJobOutput"
/** ComfyUI's own picture on a node of a canvas. */
const PREVIEW = "$$canvas-image-preview"

/** @type {Record<string, import("./inspector/panel.js").View>} */
const VIEWS = {
  FluxFaceSkinToneQA: { name: "verdicts", height: 240, draw: verdictCards },
  FluxFaceRetry: { name: "attempts", height: 250, draw: attemptStrip, update: updateAttempt },
  [OUTPUT]: { name: "compare", height: 240, draw: compare },
}

/** @type {WeakMap<LGraphNode, Panel>} */
const panels = new WeakMap()

function* nodesOf(graph) {
  for (const node of graph?.nodes ?? []) {
    yield node
    if (node.subgraph) yield* nodesOf(node.subgraph)
  }
}

/** A node's key in the page's collection of outputs. */
function outputKey(node) {
  return node.graph.isRootGraph ? String(node.id) : `${node.graph.id}:${node.id}`
}

/** Where pictures are compared, ComfyUI does not show them a second time below. */
function hideComparedImages(node) {
  Object.defineProperty(node, "hideOutputImages", {
    get: () => Boolean(node.graph && app.nodeOutputs[outputKey(node)]?.flux_face_before),
  })
  // Nodes that are elements ask for the property; on a canvas this draws.
  const before = node.onDrawBackground
  node.onDrawBackground = function (...values) {
    if (!this.hideOutputImages) return before?.apply(this, values)
    const place = this.widgets.findIndex(({ name }) => name === PREVIEW)
    if (place >= 0) this.widgets.splice(place, 1)
  }
}

document.head.append(
  element("link", { rel: "stylesheet", href: new URL("inspector/inspector.css", import.meta.url).href }),
)

app.registerExtension({
  name: "FluxFace.Inspector",

  setup() {
    onRunChange(() => {
      for (const node of nodesOf(app.rootGraph)) panels.get(node)?.update()
    })
  },

  nodeCreated(node) {
    const view = VIEWS[node.constructor.comfyClass]
    if (!view) return
    const panel = new Panel(node, view)
    panels.set(node, panel)
    if (node.constructor.comfyClass === OUTPUT) hideComparedImages(node)
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.call(this, output)
      panel.show(output)
    }
  },

  // The outputs of another tab's workflow, or of one that was opened from the history.
  onNodeOutputsUpdated(outputs) {
    for (const node of nodesOf(app.rootGraph)) panels.get(node)?.show(outputs[outputKey(node)])
  },
})
