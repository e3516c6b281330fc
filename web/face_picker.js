/**
 * Faces to click on: which are chosen (Select Faces) and who goes on them (Swap Face). What is clicked is written into
 * a plain widget, so that the same graph runs without a page.
 */
import { app } from "../../scripts/app.js"
import { textReady } from "./lib/text.js"
import { allNodes, locatorOf, outputOf, restoreOutputs, widgetOf } from "./picker/graph.js"
import { SelectFacesPicker } from "./picker/select_faces.js"
import { SwapFacePicker } from "./picker/swap_face.js"

const PICKERS = { FluxFaceSelectFaces: SelectFacesPicker, FluxFaceSwapFace: SwapFacePicker }
const WIDGET = "face_picker"
/** Pixels that a canvas leaves around the widget. */
const MARGIN = 8

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
  picker.element.dataset.node = node.constructor.comfyClass
  const height = () => picker.minHeight && picker.minHeight + 2 * MARGIN
  const widget = node.addDOMWidget(WIDGET, "flux_face_picker", picker.element, {
    serialize: false,
    margin: MARGIN,
    getMinHeight: height,
    getMaxHeight: () => (picker.views.length ? undefined : height()),
  })
  widget.serialize = false
  const refresh = () => update(node)
  for (const name of ["onExecuted", "onConfigure", "onConnectionsChange"]) follow(node, name, refresh)
  for (const name of picker.widgets) follow(widgetOf(node, name), "callback", refresh)
  picker.element.addEventListener("wheel", zoom)
  new ResizeObserver(() => fit(node, picker)).observe(picker.element)
  textReady.then(refresh)
}

/** A widget over a canvas keeps the wheel from it; in nodes that are elements the page passes it on. */
function zoom(event) {
  const list = event.target.closest(".flux-face-picker-rows")
  if (event.currentTarget.closest(".dom-widget") && !list) app.canvas.processMouseWheel(event)
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
  picker.element.dataset.locator = locatorOf(node)
  fit(node, picker)
}

/** Makes room for what the picker shows at its present width. */
function fit(node, picker) {
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

/**
 * When undoing makes a node anew, nodes that are elements go on showing the widget of the old one. The new one takes its
 * place.
 */
function replaceOld() {
  const shown = [...document.querySelectorAll(".flux-face-picker")]
  for (const node of allNodes()) {
    const own = pickers.get(node)?.element
    const old = shown.find((element) => element !== own && element.dataset.locator === own?.dataset.locator)
    if (own && !own.isConnected) old?.replaceWith(own)
  }
}

async function afterConfigureGraph() {
  updateAll()
  replaceOld()
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
  afterConfigureGraph,
})
