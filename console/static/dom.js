// Nodes are built, never parsed: object keys are strings that strangers chose.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make one element. `props`: `class`, `on` (event → listener), `style` (set through the CSSOM, which the page's
 * content security policy allows where it forbids the attribute), `text`, and attributes; null, undefined and false
 * leave one out.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, String(one));
    else if (name === "text") node.textContent = String(value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

/** Append nodes and texts, flattening lists and leaving out what is null or false. */
export function append(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** Replace everything in `node`. */
export function put(node, ...children) {
  node.replaceChildren();
  return append(node, ...children);
}

/** Set the text only when it is another one, so that live regions speak of changes alone. */
export function say(node, text) {
  const next = String(text);
  if (node.textContent !== next) node.textContent = next;
}

/** Whether a key press belongs to something that takes text. */
export function isTyping(target) {
  if (!(target instanceof Element)) return false;
  return target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]") !== null;
}
