// The shell: who is signed in, which page the address asks for, and how one leaves the other.

import { api, isLeft, Problem, session as sessionEvents } from "./api.js";
import { dialogIsOpen } from "./dialogs.js";
import { h, isTyping, put } from "./dom.js";
import { icon, mark } from "./icons.js";
import { announce, message } from "./messages.js";
import { emptyState } from "./parts.js";
import { chooseTheme, chosenTheme, remember, remembered } from "./storage.js";
import { problemWords } from "./words.js";
import { flaggedPage } from "./page_flagged.js";
import { imagePageOf } from "./page_image.js";
import { operationsPage } from "./page_operations.js";
import { queuePage } from "./page_queue.js";
import { searchPage } from "./page_search.js";
import { signInPage } from "./page_signin.js";
import { outbox } from "./outbox.js";

const PAGES = {
  "/console/queue": { title: "Queue", scope: "moderate", iconName: "queue", page: queuePage, menu: true },
  "/console/flagged": { title: "Flagged", scope: "moderate", iconName: "grid", page: flaggedPage, menu: true },
  "/console/search": { title: "Search", scope: "read", iconName: "search", page: searchPage, menu: true },
  "/console/image": { title: "Image", scope: "read", iconName: "search", page: imagePageOf, menu: false },
  "/console/operations": { title: "Operations", scope: "admin", iconName: "pulse", page: operationsPage, menu: true },
};

const THEMES = ["system", "light", "dark"];
const AGAIN_MS = 4000;
const SIGN_OUT_MS = 5000;
const THEME_ICONS = { system: "auto", light: "sun", dark: "moon" };

const app = document.getElementById("app");
let caller = null;

/** Note who is signed in, here and for the decisions that are on their way. */
function nowIs(session) {
  caller = session;
  outbox.owner = session?.name ?? null;
}
let current = null;

const has = (scope) => caller?.scopes?.includes(scope) ?? false;

/** The page that the scopes allow first. */
function home() {
  if (has("moderate")) return "/console/queue";
  if (has("admin")) return "/console/operations";
  return "/console/search";
}

/** Where to go after signing in: what was asked for, if it is a page of ours. */
function wanted() {
  const next = new URLSearchParams(location.search).get("next");
  if (!next) return null;
  const to = new URL(next, location.origin);
  return to.origin === location.origin && PAGES[to.pathname] ? to.pathname + to.search : null;
}

function navigate(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  render({ moved: true });
}

function leave() {
  current?.leave.abort();
  current = null;
}

async function signIn(key) {
  await api.signIn(key);
  nowIs(await api.session());
  remember("signed-in", true);
}

async function signOut() {
  leave();
  const left = await outbox.drained(SIGN_OUT_MS);
  if (left > 0) {
    message(
      `${left === 1 ? "One decision is" : `${left} decisions are`} not with the service yet. ` +
        `Sign in again in this window to send ${left === 1 ? "it" : "them"}.`,
      { tone: "bad" },
    );
  }
  try {
    await api.signOut();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    message(
      `Signing out did not reach the service, so the session may live on. ${problemWords(error, "signing out")}`,
      { tone: "bad" },
    );
  }
  nowIs(null);
  remember("signed-in", false);
  navigate("/console");
}

function render({ moved = false, said = "" } = {}) {
  leave();
  const path = location.pathname.replace(/\/+$/, "") || "/console";
  const known = PAGES[path];
  if (caller === null) {
    if (known) history.replaceState(null, "", `/console?next=${encodeURIComponent(path + location.search)}`);
    showSignIn(said);
    return;
  }
  if (!known) {
    const next = path === "/console" ? (wanted() ?? home()) : null;
    if (next) {
      navigate(next, { replace: true });
      return;
    }
  }
  const controller = new AbortController();
  current = { leave: controller };
  const title = known?.title ?? "Not found";
  document.title = `${title} · Sightline`;
  const main = h("main", { id: "main", class: `main ${known ? `main-${path.split("/").pop()}` : ""}`, tabindex: "-1" });
  put(app, rail(path), main);
  app.dataset.page = known ? path.split("/").pop() : "none";
  if (!known) {
    main.append(
      emptyState({
        iconName: "help",
        title: "There is no such page",
        words: "The address does not lead anywhere in this console.",
        actions: [h("a", { class: "button button-primary", href: home() }, "Go to the start")],
      }),
    );
  } else if (!has(known.scope)) {
    main.append(
      emptyState({
        iconName: "help",
        title: `Your key does not open “${title}”`,
        words:
          `This page needs the scope “${known.scope}”; ` +
          `the key of ${caller.name} has ${caller.scopes.join(", ") || "none"}. ` +
          "Ask who made the key, or sign in with another one.",
        actions: [home() !== path && h("a", { class: "button button-primary", href: home() }, "Go to the start")],
        testid: "no-scope",
      }),
    );
  } else {
    known.page({
      main,
      caller,
      has,
      signal: controller.signal,
      params: new URLSearchParams(location.search),
      navigate,
    });
  }
  if (moved) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
    announce(title);
  }
}

function showSignIn(said) {
  const controller = new AbortController();
  current = { leave: controller };
  document.title = "Sign in · Sightline";
  app.dataset.page = "signin";
  const main = h("main", { id: "main", class: "main main-signin", tabindex: "-1" });
  put(app, main);
  signInPage({
    main,
    said,
    themeButton: themeButton(),
    signIn: async (key) => {
      await signIn(key);
      navigate(wanted() ?? home(), { replace: true });
    },
  });
}

function rail(path) {
  const links = Object.entries(PAGES)
    .filter(([, page]) => page.menu && has(page.scope))
    .map(([to, page]) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            class: "rail-link",
            href: to,
            "aria-current": to === path ? "page" : null,
            "data-testid": `nav-${to.split("/").pop()}`,
          },
          icon(page.iconName),
          h("span", { text: page.title }),
        ),
      ),
    );
  return h(
    "header",
    { class: "rail" },
    h(
      "a",
      { class: "brand", href: home(), "aria-label": "Sightline, to the start" },
      mark(),
      h("span", { text: "Sightline" }),
    ),
    h("nav", { "aria-label": "Pages" }, h("ul", { class: "rail-links" }, links)),
    h(
      "div",
      { class: "rail-foot" },
      h(
        "div",
        { class: "who" },
        h("span", { class: "who-name", "data-testid": "who", text: caller.name }),
        h("span", { class: "who-scopes", text: caller.scopes.join(" · ") }),
      ),
      themeButton(),
      h(
        "button",
        {
          type: "button",
          class: "icon-button",
          title: "Sign out",
          "aria-label": "Sign out",
          "data-testid": "signout",
          on: { click: signOut },
        },
        icon("out"),
      ),
    ),
  );
}

function themeButton() {
  const label = () => `Theme: ${chosenTheme()}. Change it`;
  const node = h(
    "button",
    { type: "button", class: "icon-button", "data-testid": "theme", title: label(), "aria-label": label() },
    icon(THEME_ICONS[chosenTheme()] ?? "auto"),
  );
  node.addEventListener("click", () => {
    chooseTheme(THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]);
    put(node, icon(THEME_ICONS[chosenTheme()]));
    node.title = label();
    node.setAttribute("aria-label", label());
    announce(`Theme: ${chosenTheme()}`);
  });
  return node;
}

/** The demo's link carries its key behind the #, which no server sees; it leaves the address bar before it is used. */
function keyOfFragment() {
  if (!location.hash.startsWith("#key=")) return null;
  const key = location.hash.slice("#key=".length);
  history.replaceState(null, "", location.pathname + location.search);
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

async function start() {
  const key = keyOfFragment();
  try {
    // Nobody has signed in with this browser, so the start page need not ask who it is.
    const stranger = !remembered("signed-in", false) && location.pathname.replace(/\/+$/, "") === "/console";
    if (key) await signIn(key);
    else if (!stranger) nowIs(await api.session());
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    nowIs(null);
    const wrongKey = key !== null && error.status === 401;
    if (key === null && error.passing) {
      showWaiting(error);
      return;
    }
    const said = wrongKey
      ? "The key in the link is not known, has expired or was revoked."
      : error.status === 401
        ? ""
        : problemWords(error, "signing in");
    render({ said });
    return;
  }
  render();
}

/** No answer yet to who is signed in: wait for the service instead of asking for a key that may not be needed. */
function showWaiting(error) {
  leave();
  document.title = "Sightline";
  delete app.dataset.page;
  const timer = setTimeout(start, Math.max(AGAIN_MS, error.retryAfterMs ?? 0));
  const now = () => (clearTimeout(timer), start());
  put(
    app,
    h(
      "main",
      { id: "main", class: "main", tabindex: "-1" },
      emptyState({
        iconName: "alert",
        title: "The service does not answer",
        words: problemWords(error, "the console"),
        testid: "no-service",
        actions: [h("button", { type: "button", class: "button button-primary", on: { click: now } }, "Try now")],
      }),
    ),
  );
}

document.addEventListener("click", (event) => {
  if (
    event.defaultPrevented ||
    event.button !== 0 ||
    event.metaKey ||
    event.ctrlKey ||
    event.shiftKey ||
    event.altKey
  ) {
    return;
  }
  const link =
    event.target instanceof Element ? /** @type {HTMLAnchorElement} */ (event.target.closest("a[href]")) : null;
  if (!link || link.target || link.hasAttribute("download")) return;
  const to = new URL(link.href);
  if (
    to.origin !== location.origin ||
    !to.pathname.startsWith("/console/") ||
    to.pathname.startsWith("/console/static/")
  ) {
    return;
  }
  event.preventDefault();
  navigate(to.pathname + to.search);
});
document.querySelector(".skip-link").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !has("read")) {
    return;
  }
  if (dialogIsOpen()) return;
  event.preventDefault();
  const field = /** @type {HTMLElement} */ (document.querySelector("[data-testid=search-input]"));
  if (field) field.focus();
  else navigate("/console/search");
});
window.addEventListener("popstate", () => render({ moved: true }));
window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) start();
});
window.addEventListener("unhandledrejection", (event) => {
  if (isLeft(event.reason)) event.preventDefault();
});
sessionEvents.addEventListener("ended", () => {
  if (caller === null) return;
  nowIs(null);
  render({ said: "Your session has ended. Sign in again to go on where you were." });
});

start();
