/** What the quality nodes have found, on the nodes: verdicts, attempts, and before and after. */
import { app } from "../../scripts/app.js"
import { attemptStrip, updateAttempt } from "./inspector/attempt_strip.js"
import { compare } from "./inspector/compare.js"
import { Panel } from "./inspector/panel.js"
import { onRunChange } from "./inspector/runs.js"
import { verdictCards } from "./inspector/verdict_cards.js"
import { element } from "./lib/dom.js"

/** @type {Record<string, import("./inspector/panel.js").View>} */
const VIEWS = {
  FluxFaceSkinToneQA: { name: "verdicts", height: 240, draw: verdictCards },
  FluxFaceRetry: { name: "attempts", height: 250, draw: attemptStrip, update: updateAttempt },
  FluxFaceJobOutput: { name: "compare", height: 240, draw: compare },
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
