// Dialogs of the browser's own kind: focus stays inside and returns, Escape closes.

import { h } from "./dom.js";
import { icon } from "./icons.js";

/** Open a dialog. Returns a function that closes it. `closed` is called once, however it ends. */
export function openDialog({ title, body, testid, closed = () => {}, wide = false }) {
  const headingId = `dialog-${Math.random().toString(36).slice(2)}`;
  let ended = false;
  // At once, not when the browser's own event comes: a key pressed meanwhile belongs to the page again, and to the
  // answer given.
  const close = () => {
    if (ended) return;
    ended = true;
    node.close();
    node.remove();
    closed();
  };
  const node = h(
    "dialog",
    { class: `dialog ${wide ? "dialog-wide" : ""}`, "aria-labelledby": headingId, "data-testid": testid },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: headingId, text: title }),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", on: { click: close } }, icon("cross")),
    ),
    h("div", { class: "dialog-body" }, body),
  );
  node.addEventListener("click", (event) => {
    // The backdrop is the dialog itself; what is inside it is not.
    if (event.target === node) close();
  });
  // The key that closes a dialog would otherwise reach the page behind it, which by then has its keys back.
  node.addEventListener("keydown", (event) => event.stopPropagation());
  // Escape closes it without asking here.
  node.addEventListener("close", close);
  document.body.append(node);
  node.showModal();
  return close;
}

export const dialogIsOpen = () => document.querySelector("dialog[open]") !== null;
