// Choosing why an image is rejected.

import { h } from "./dom.js";
import { openDialog } from "./dialogs.js";
import { button, key } from "./parts.js";
import { REJECT_REASONS } from "./words.js";

const LONGEST = 200;

/**
 * Ask for a reason; `chosen` gets its code, or the person's own words. `other` opens with the field for words ready.
 */
export function askReason({ chosen, other = false, title = "Reject because of …" }) {
  let answer = null;
  const field = h("input", {
    id: "reason-other",
    class: "field",
    type: "text",
    maxlength: LONGEST,
    placeholder: "In a few words",
    "data-testid": "reason-other-text",
  });
  const pick = (code) => {
    answer = code;
    close();
  };
  const list = h(
    "div",
    { class: "reason-list" },
    REJECT_REASONS.map((reason, at) =>
      h(
        "button",
        {
          type: "button",
          class: "reason",
          "data-testid": `reason-${reason.code}`,
          on: { click: () => (reason.code === "other" ? field.focus() : pick(reason.code)) },
        },
        key(String(at + 1)),
        reason.words,
      ),
    ),
  );
  const form = h(
    "form",
    { class: "reason-form" },
    h("label", { for: "reason-other", text: "Other, in your words" }),
    field,
    button("Reject", { kind: "reject", type: "submit", testid: "reason-other-go" }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    pick(field.value.trim() || "other");
  });
  const body = h("div", { class: "reasons" }, list, form);
  body.addEventListener("keydown", (event) => {
    if (event.target === field || event.ctrlKey || event.metaKey || event.altKey) return;
    const reason = REJECT_REASONS[Number(event.key) - 1];
    if (!reason) return;
    event.preventDefault();
    if (reason.code === "other") field.focus();
    else pick(reason.code);
  });
  const close = openDialog({ title, body, testid: "reason-dialog", closed: () => answer !== null && chosen(answer) });
  if (other) field.focus();
  else list.firstElementChild.focus();
}
