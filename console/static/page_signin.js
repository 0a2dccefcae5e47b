// Signing in with an API key.

import { Problem } from "./api.js";
import { h, say } from "./dom.js";
import { mark } from "./icons.js";
import { button } from "./parts.js";
import { problemWords } from "./words.js";

export function signInPage({ main, said, signIn, themeButton }) {
  const field = h("input", {
    id: "signin-key",
    class: "field mono",
    type: "password",
    name: "key",
    autocomplete: "current-password",
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: "slk_…",
    required: true,
    "aria-describedby": "signin-help signin-error",
    "data-testid": "signin-key",
  });
  const error = h("p", {
    id: "signin-error",
    class: "form-error",
    role: "alert",
    "data-testid": "signin-error",
    text: said,
  });
  const go = button("Sign in", { kind: "primary", type: "submit", testid: "signin-go" });
  const show = h("input", {
    type: "checkbox",
    id: "signin-show",
    on: { change: () => (field.type = show.checked ? "text" : "password") },
  });
  const form = h(
    "form",
    { class: "signin-form", novalidate: true },
    h("h1", { text: "Sign in" }),
    h("label", { for: "signin-key", text: "API key" }),
    field,
    h("label", { class: "check", for: "signin-show" }, show, "Show the key"),
    error,
    go,
    h(
      "p",
      { id: "signin-help", class: "quiet small" },
      "A key begins with slk_ and comes from whoever runs Sightline here. " +
        "It stays on this computer as a cookie that only this service reads.",
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = field.value.trim();
    if (!key) {
      say(error, "Type or paste your key.");
      field.focus();
      return;
    }
    go.disabled = true;
    say(error, "");
    try {
      await signIn(key);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      say(error, words(problem));
      field.setAttribute("aria-invalid", "true");
      field.select();
      field.focus();
    } finally {
      go.disabled = false;
    }
  });
  main.append(
    h(
      "div",
      { class: "signin" },
      h(
        "div",
        { class: "signin-side" },
        h("div", { class: "brand" }, mark(), h("span", { text: "Sightline" })),
        h("p", { class: "signin-line", text: "Every upload, seen before it goes live." }),
        h("p", {
          class: "signin-more",
          text:
            "Each verdict shows its model, its score, the threshold and the rule behind it. " +
            "What is decided here is a person’s.",
        }),
      ),
      h("div", { class: "signin-main" }, h("div", { class: "signin-theme" }, themeButton), form),
    ),
  );
  field.focus();
}

function words(problem) {
  if (problem.status === 401 || problem.status === 403) {
    return "This key is not known, has expired or was revoked. Check that it was copied whole.";
  }
  if (problem.status === 422) return "This is not a key: it begins with slk_ and has two parts behind it.";
  return problemWords(problem, "signing in");
}
