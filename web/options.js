/**
 * Choices in the page's language. ComfyUI translates the names of a node's inputs but not the words of a choice; the
 * label is only shown, and the value stays the English word.
 */
import { app } from "../../scripts/app.js"
import { nodeText, textReady } from "./lib/text.js"

app.registerExtension({
  name: "FluxFace.Options",

  async setup() {
    await textReady
  },

  nodeCreated(node) {
    for (const widget of node.widgets ?? []) {
      const labels = nodeText(node.comfyClass, "inputs", widget.name, "options")
      if (!labels) continue
      widget.options.getOptionLabel = (value) => labels[value ?? ""] ?? String(value ?? "")
    }
  },
})
