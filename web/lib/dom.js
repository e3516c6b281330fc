/** Elements, and the style sheet that all parts of the pack share. */

/**
 * An element with attributes, listeners and children.
 *
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `onclick` and the like are listeners, `dataset` an object, `false` and
 *   `null` leave an attribute out; everything else is set as an attribute
 * @param {...(Node | string | null | false)} children strings become text, never markup
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value)
    else if (name === "dataset") Object.assign(made.dataset, value)
    else made.setAttribute(name, value === true ? "" : String(value))
  }
  made.append(...children.filter((child) => child !== null && child !== false))
  return made
}

const sheet = element("link", { rel: "stylesheet", href: new URL("style.css", import.meta.url).href })
document.head.append(sheet)
