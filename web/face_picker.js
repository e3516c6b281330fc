/**
 * Faces to click on: which are chosen (Select Faces) and who goes on them (Swap Face). What is clicked is written into
 * a plain widget, so that the same graph runs without a page.
 */
import { app } from "../../scripts/app.js"
import { textReady } from "./lib/text.js"
import { allNodes, outputOf, restoreOutputs, widgetOf } from "./picker/graph.js"
import { SelectFacesPicker } from "./picker/select_faces.js"
import { SwapFacePicker } from "./picker/swap_face.js"

const PICKERS = { FluxFaceSelectFaces: SelectFacesPicker, FluxFaceSwapFace: SwapFacePicker }
const WIDGET = "face_picker"

/** @type {WeakMap<object, SelectFacesPicker | SwapFacePicker>} */
const pickers = new WeakMap()

/**
 * Puts a picker on a node.
 *
 * A picker has an `element`, the names of the `widgets` that it shows, `views`, the images of the last run, `minHeight`
 * in pixels, and `refresh`, which draws what node and widgets now say.
 */
function attach(node, picker) {
  pickers.set(node, picker)
  const widget = node.addDOMWidget(WIDGET, "flux_face_picker", picker.element, {
    serialize: false,
    getMinHeight: () => picker.minHeight,
    getMaxHeight: () => (picker.views.length ? undefined : picker.minHeight),
  })
  widget.serialize = false
  const refresh = () => update(node)
  for (const name of ["onExecuted", "onConfigure", "onConnectionsChange"]) follow(node, name, refresh)
  for (const name of picker.widgets) follow(widgetOf(node, name), "callback", refresh)
  textReady.then(refresh)
}

/** Calls `then` after an object's own method of this name, if it has one. */
function follow(object, name, then) {
  const before = object[name]
  object[name] = function (...values) {
    const result = before?.apply(this, values)
    then()
    return result
  }
}

function update(node) {
  const picker = pickers.get(node)
  picker.refresh()
  // Nodes that are elements take their height from it; on a canvas `getMinHeight` gives it.
  picker.element.style.minHeight = `${picker.minHeight}px`
  const [width, height] = node.size
  const needed = node.computeSize()[1]
  if (needed > height) node.setSize([width, needed])
  node.graph?.setDirtyCanvas(true, true)
}

function updateAll() {
  for (const node of allNodes()) if (pickers.has(node)) update(node)
}

async function restore() {
  const waiting = allNodes().some((node) => pickers.has(node) && !outputOf(node))
  if (waiting && (await restoreOutputs())) updateAll()
}

app.registerExtension({
  name: "FluxFace.FacePicker",
  nodeCreated(node) {
    const Picker = PICKERS[node.constructor.comfyClass]
    if (Picker) attach(node, new Picker(node))
  },
  onNodeOutputsUpdated: updateAll,
  afterConfigureGraph: restore,
})
