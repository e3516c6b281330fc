/** The panel in the side bar: the API's jobs, and what the doctor finds. */
import { app } from "../../scripts/app.js"
import { Panel } from "./jobs/panel.js"
import { t, textReady } from "./lib/text.js"

/** @type {Panel | undefined} */
let panel

app.registerExtension({
  name: "FluxFace.Jobs",
  async setup() {
    await textReady
    app.extensionManager.registerSidebarTab({
      id: "flux-face",
      icon: "pi pi-face-smile",
      title: t("jobs.tab"),
      tooltip: t("jobs.tooltip"),
      type: "custom",
      render(container) {
        // The page calls this again whenever it draws the side bar anew.
        if (panel && container.contains(panel.element)) return
        panel?.close()
        panel = new Panel()
        container.replaceChildren(panel.element)
      },
      destroy() {
        panel?.close()
        panel = undefined
      },
    })
  },
})
