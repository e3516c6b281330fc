/** A view of a node's output, on the node. */
import { element } from "../lib/dom.js"
import { textReady } from "../lib/text.js"
import { words } from "./words.js"

// Keys that mean something inside a panel and something else to the canvas.
const KEYS = new Set(["Enter", " ", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"])
/** In pixels. */
const HINT_HEIGHT = 44

/**
 * @typedef {object} View
 * @property {string} name below `labels` and `hints` of the texts
 * @property {number} height least height of its results in pixels
 * @property {(output: object) => ?Node[]} draw null where the output is none of its own
 * @property {(root: HTMLElement, output: object) => void} [update] called while a prompt runs and at its end
 */

/** One view on one node. */
export class Panel {
  /**
   * @param {LGraphNode} node
   * @param {View} view
   */
  constructor(node, view) {
    this.node = node
    this.view = view
    this.output = null
    this.root = element("section", {
      class: "flux-face flux-face-inspector",
      // The panel scrolls, not the canvas, once it was clicked.
      "data-capture-wheel": "true",
      onkeydown: (event) => {
        if (KEYS.has(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation()
      },
    })
    const widget = node.addDOMWidget("inspector", "flux_face_inspector", this.root, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => this.#leastHeight,
    })
    widget.serialize = false
    textReady.then(() => this.#draw([element("p", { class: "flux-face-hint" }, words(`hints.${view.name}`))]))
  }

  /**
   * Show what the node has put out; what is not the view's own leaves it as it is.
   *
   * @param {?object} output
   */
  async show(output) {
    await textReady
    const drawn = output && this.view.draw(output)
    if (!drawn) return
    this.output = output
    this.#draw(drawn)
    const [width, height] = this.node.size
    this.node.setSize([width, Math.max(height, this.node.computeSize()[1])])
    this.node.setDirtyCanvas(true, true)
  }

  /** Bring what changes during a run up to date. */
  update() {
    if (this.output) this.view.update?.(this.root, this.output)
  }

  get #leastHeight() {
    return this.output ? this.view.height : HINT_HEIGHT
  }

  #draw(content) {
    // Nodes that are elements take their height from it; on a canvas `getMinHeight` gives it.
    this.root.style.minHeight = `${this.#leastHeight}px`
    this.root.setAttribute("aria-label", words(`labels.${this.view.name}`))
    this.root.replaceChildren(...content)
  }
}
