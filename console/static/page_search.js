// Find an image by its key, or score a file that is not uploaded yet.

import { api, imagePage, isLeft, Problem, untilScored } from "./api.js";
import { append, h, put } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./messages.js";
import { knownThresholds } from "./models.js";
import {
  actionBadge,
  address,
  adviceList,
  button,
  decisionSentence,
  facts,
  flagRules,
  outcomeBadge,
  outcomeSentence,
  pictureFacts,
  publishable,
  ruleCard,
  scoreGroups,
  thresholdsOf,
  toneBy,
  workTimes,
} from "./parts.js";
import { regionsOf, Veil } from "./veil.js";
import { bytes, problemWords, seconds } from "./words.js";

const WAIT_SECONDS = 5;
const PATIENCE_MS = 120_000;
const FILES_AT_ONCE = 2;
const MOST_FILES = 24;
const USUAL_LIMIT = 10 * 1024 * 1024;
const STRONG = ["block", "review"];

/** Read `s3://bucket/key` or `bucket/key`; null when it is neither. */
function parsePlace(text) {
  const bare = text.trim().replace(/^s3:\/\//i, "");
  const cut = bare.indexOf("/");
  return cut > 0 && cut < bare.length - 1 ? { bucket: bare.slice(0, cut), key: bare.slice(cut + 1) } : null;
}

export function searchPage({ main, has, signal, params }) {
  const field = h("input", {
    id: "search-input",
    class: "field mono",
    type: "text",
    name: "q",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: "s3://bucket/key",
    "aria-describedby": "search-help",
    "data-testid": "search-input",
    value: params.get("q") ?? "",
  });
  const go = button("Find", { kind: "primary", type: "submit", testid: "search-go", iconName: "search" });
  const result = h("div", { class: "search-result", "aria-live": "polite", "data-testid": "search-result" });
  let asking = null;
  const form = h(
    "form",
    { class: "search-form", role: "search", novalidate: true },
    h("label", { for: "search-input", text: "Find an image by its bucket and key" }),
    h("div", { class: "search-row" }, field, go),
    h(
      "p",
      { id: "search-help", class: "quiet small" },
      "As in ",
      h("span", { class: "mono", text: "s3://images/2026/11/dress.jpg" }),
      "; s3:// may be left out.",
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });

  async function find() {
    asking?.abort();
    const mine = (asking = new AbortController());
    signal.addEventListener("abort", () => mine.abort(), { once: true });
    const place = parsePlace(field.value);
    if (!place) {
      put(
        result,
        h("p", {
          class: "note note-bad",
          "data-testid": "search-error",
          text: "Give a bucket and a key with a slash between them, such as s3://images/photo.jpg.",
        }),
      );
      field.focus();
      return;
    }
    history.replaceState(null, "", `/console/search?${new URLSearchParams({ q: field.value.trim() })}`);
    put(result, h("p", { class: "quiet", text: "Looking …" }));
    const until = performance.now() + PATIENCE_MS;
    try {
      const found = await untilScored(place.bucket, place.key, {
        wait: WAIT_SECONDS,
        signal: mine.signal,
        waiting: (found) => {
          put(
            result,
            h(
              "div",
              { class: "note under-way", "data-testid": "search-under-way" },
              h("span", { class: "spinner", "aria-hidden": "true" }),
              h(
                "p",
                {},
                `This image is under way: uploaded ${sinceWords(found.since_ms)}, not scored yet` +
                  (found.queue_seconds > 0 ? `; about ${seconds(found.queue_seconds)} are before it` : "") +
                  ". Its outcome appears here by itself.",
              ),
            ),
          );
          if (performance.now() > until) {
            put(
              result,
              h("p", {
                class: "note",
                "data-testid": "search-under-way",
                text: "Still under way after two minutes. The workers may be behind; look again later.",
              }),
            );
            return false;
          }
          return true;
        },
      });
      if (found === null) return;
      put(result, imageCard(found, thresholds));
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      put(
        result,
        h(
          "div",
          { class: "note note-bad", "data-testid": "search-error" },
          h("p", { text: problemWords(error, "this image") }),
          error.code === "removed_image" && h("a", { href: imagePage(place.bucket, place.key) }, "Its history"),
        ),
      );
    }
  }

  let thresholds = {};
  const ready = knownThresholds().then((found) => (thresholds = found));
  append(
    main,
    h("div", { class: "page-head" }, h("h1", { text: "Search" })),
    h("section", { class: "panel panel-search", "aria-label": "Find an image" }, form, result),
    dropping({ has, signal, thresholds: () => ready.then(() => thresholds) }),
  );
  if (field.value) ready.then(find);
  else field.focus({ preventScroll: true });
}

function imageCard(image, thresholds) {
  const known = thresholdsOf(image.flag?.rules, thresholds);
  return h(
    "article",
    { class: "found", "data-testid": "search-found" },
    h("h2", { class: "visually-hidden", text: "What is known of it" }),
    h(
      "div",
      { class: "found-head" },
      outcomeBadge(image.outcome),
      image.flag && actionBadge(image.flag.action),
      h(
        "a",
        { href: imagePage(image.bucket, image.key), "data-testid": "search-open" },
        address(image.bucket, image.key),
      ),
    ),
    image.outcome !== "scored" && h("p", { text: outcomeSentence(image) }),
    image.pending && h("p", { class: "note", text: "A newer upload of the same key is under way." }),
    image.decision && h("p", { text: `${decisionSentence(image.decision)}.` }),
    h(
      "div",
      { class: "found-body" },
      h("div", {}, pictureFacts(image), adviceList(image.reasons), image.flag && flagRules(image.flag)),
      h("div", {}, scoreGroups(image, { thresholds: known, toneOf: toneBy(image.flag?.rules) })),
    ),
    h(
      "p",
      {},
      h("a", { class: "button button-quiet", href: imagePage(image.bucket, image.key) }, icon("open"), "Open its page"),
    ),
  );
}

// --- a file of one's own

function dropping({ has, signal, thresholds }) {
  const cards = h("div", { class: "results", "data-testid": "score-results" });
  if (!has("score")) {
    return h(
      "section",
      { class: "panel", "aria-label": "Score a file" },
      h("h2", { text: "Score a file" }),
      h("p", {
        class: "note",
        "data-testid": "score-no-scope",
        text:
          "Your key may look images up, but not score new ones: " +
          "that needs the scope “score”. Ask who made the key.",
      }),
    );
  }
  const queue = [];
  let running = 0;
  const input = h("input", {
    id: "file-input",
    class: "visually-hidden",
    type: "file",
    accept: "image/*,.heic,.heif,.avif,.tif,.tiff,.webp",
    multiple: true,
    "data-testid": "file-input",
  });
  const zone = h(
    "label",
    { class: "dropzone", for: "file-input", "data-testid": "dropzone" },
    input,
    h("span", { class: "dropzone-icon" }, icon("upload")),
    h("span", { class: "dropzone-title", text: "Drop a picture here" }),
    h("span", {
      class: "dropzone-words",
      text: "or choose files, or paste one. It is scored at once by the same models and rules, and kept nowhere.",
    }),
  );
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  let depth = 0;
  const over = (on) => zone.classList.toggle("is-over", on);
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const listeners = {
    dragenter: (event) => hasFiles(event) && (event.preventDefault(), (depth += 1), over(true)),
    dragleave: (event) => hasFiles(event) && ((depth = Math.max(0, depth - 1)), over(depth > 0)),
    // The whole page takes what is dropped: a near miss would open the file instead of the console.
    dragover: (event) => hasFiles(event) && (event.preventDefault(), (event.dataTransfer.dropEffect = "copy")),
    drop: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      over(false);
      take([...event.dataTransfer.files]);
    },
    paste: (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      take(files);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
  const urls = new Set();
  signal.addEventListener("abort", () => {
    for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
    for (const url of urls) URL.revokeObjectURL(url);
  });

  function take(files) {
    for (const file of files.slice(0, MOST_FILES)) {
      const card = new FileCard(file, signal, thresholds);
      urls.add(card.url);
      cards.prepend(card.node);
      queue.push(card);
    }
    while (cards.children.length > MOST_FILES) cards.lastElementChild.remove();
    announce(files.length === 1 ? `Scoring ${files[0].name}` : `Scoring ${files.length} files`);
    pump();
  }

  function pump() {
    while (running < FILES_AT_ONCE && queue.length) {
      running += 1;
      queue
        .shift()
        .score()
        .finally(() => {
          running -= 1;
          pump();
        });
    }
  }

  return h(
    "section",
    { class: "drop-section", "aria-label": "Score a file" },
    h("h2", { text: "Score a file" }),
    zone,
    cards,
  );
}

class FileCard {
  constructor(file, signal, thresholds) {
    this.file = file;
    this.signal = signal;
    this.thresholds = thresholds;
    this.url = URL.createObjectURL(file);
    this.body = h(
      "div",
      { class: "result-body" },
      h("p", { class: "quiet under-way" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Scoring …"),
    );
    this.place = h(
      "div",
      { class: "result-picture" },
      h("div", { class: "veil veil-card is-loading" }, h("div", { class: "veil-inner" })),
    );
    this.node = h(
      "article",
      { class: "result", "data-testid": "score-result" },
      this.place,
      h(
        "div",
        { class: "result-text" },
        h("h3", { class: "result-name", title: file.name }, h("bdi", { text: file.name || "pasted picture" })),
        this.body,
      ),
    );
  }

  async score() {
    put(
      this.body,
      h("p", { class: "quiet under-way" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Scoring …"),
    );
    try {
      const view = await api.score(this.file, this.signal);
      this.#show(view, await this.thresholds());
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      // A body that is refused before it is read ends in a broken connection, not in an answer.
      const large = error.status === 0 && this.file.size > USUAL_LIMIT;
      const words = large
        ? "The file is too large: 10 MB is the most that is scored here."
        : problemWords(error, "scoring files");
      this.#picture({ veiled: false, regions: [] });
      put(
        this.body,
        h("p", { class: "note note-bad", role: "alert", "data-testid": "score-error" }, words),
        h("p", { class: "quiet small", text: bytes(this.file.size) }),
        error.passing && !large && button("Try again", { onClick: () => this.score() }),
      );
    }
  }

  /** @param {{veiled: boolean, width?: number, height?: number, regions: object[]}} picture */
  #picture({ veiled, width, height, regions }) {
    const picture = h("img", {
      class: "result-img",
      alt: `The file ${this.file.name}`,
      src: this.url,
      "data-testid": "score-picture",
    });
    if (veiled) {
      // Held with a pointer or, when focused, with Space: the same as in the queue.
      const veil = new Veil({
        use: "card",
        width,
        height,
        alt: `The file ${this.file.name}`,
        testid: "score-picture",
        regions,
      });
      veil.picture(this.url);
      veil.node.setAttribute("tabindex", "0");
      veil.node.setAttribute("role", "button");
      veil.node.setAttribute("aria-label", "Hold to show the picture");
      const show = (on) => () => veil.show(on);
      veil.node.addEventListener("pointerdown", show(true));
      for (const name of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) {
        veil.node.addEventListener(name, show(false));
      }
      veil.node.addEventListener("keydown", (event) => {
        if (event.key !== " ") return;
        event.preventDefault();
        veil.show(true);
      });
      put(this.place, veil.node, h("p", { class: "quiet small", text: "Hold to show" }));
      return;
    }
    picture.addEventListener("error", () =>
      put(
        this.place,
        h("div", { class: "veil-words" }, icon("nopicture"), h("p", { text: "This browser cannot show this format." })),
      ),
    );
    put(this.place, picture);
  }

  #show(view, models) {
    const known = thresholdsOf(view.rules, models);
    this.#picture({
      veiled: STRONG.includes(view.action),
      width: view.width,
      height: view.height,
      regions: regionsOf(view),
    });
    const verdict =
      {
        none: "Nothing to object to",
        advise: "Fine, with advice to the seller",
        notify: "Would be let through, with a notice",
        review: "A person would look at it",
        block: "Would be blocked",
      }[view.action] ?? view.action;
    const advice = adviceList(view.reasons);
    put(
      this.body,
      h(
        "div",
        { class: "verdict" },
        actionBadge(view.action),
        h("strong", { "data-testid": "score-verdict", text: verdict }),
      ),
      view.rules?.length > 0 && h("ul", { class: "rules" }, view.rules.map(ruleCard)),
      advice && h("div", {}, h("h4", { text: "Advice" }), advice),
      h("div", { class: "result-scores" }, scoreGroups(view, { thresholds: known, toneOf: toneBy(view.rules) })),
      facts([
        [
          "Picture",
          view.width
            ? `${view.format}, ${view.width} × ${view.height}, ${bytes(view.size_bytes ?? this.file.size)}`
            : null,
        ],
        ["Frames", view.frames > 1 ? String(view.frames) : null],
        ["File", view.truncated ? "truncated: scored as far as it goes" : null],
        ["Publishable", publishable(view)],
        ["Scores", view.cached ? "from cache, these bytes were known" : "computed afresh"],
      ]),
      h("details", { class: "more" }, h("summary", {}, "Timings"), workTimes(view.timings_ms)),
    );
    announce(`${this.file.name}: ${verdict}`);
  }
}

function sinceWords(sinceMs) {
  if (!Number.isFinite(sinceMs)) return "a moment ago";
  return `${seconds(Math.max(0, Math.round((Date.now() - sinceMs) / 1000)))} ago`;
}
