// Words that appear beside the work: messages for everyone, announcements for those who listen.

import { h, say } from "./dom.js";
import { icon } from "./icons.js";

const LIFETIME_MS = 7000;
const MOST = 3;

/** Show a message. `tone`: `good`, `bad` or `plain`; `bad` stays until it is dismissed. `action`: {words, run}. */
export function message(text, { tone = "plain", action = null } = {}) {
  const place = document.getElementById("toasts");
  const close = () => node.remove();
  const node = h(
    "div",
    { class: `toast toast-${tone}`, role: tone === "bad" ? "alert" : "status", "data-testid": "message" },
    icon(tone === "bad" ? "alert" : tone === "good" ? "check" : "help"),
    h("p", { text }),
    action &&
      h(
        "button",
        { type: "button", class: "toast-action", on: { click: () => (close(), action.run()) } },
        action.words,
      ),
    h("button", { type: "button", class: "toast-close", "aria-label": "Dismiss", on: { click: close } }, icon("cross")),
  );
  while (place.children.length >= MOST) place.firstElementChild.remove();
  place.append(node);
  if (tone !== "bad") setTimeout(close, LIFETIME_MS);
  return close;
}

/** Speak to a screen reader without showing anything. */
export function announce(text) {
  say(document.getElementById("announcer"), text);
}
