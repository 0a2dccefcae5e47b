// A picture behind a veil: blurred and grey from its first pixel on, clear only while someone holds it so.

import { h, put } from "./dom.js";
import { icon } from "./icons.js";

/** A frame is at most four times as wide as it is high, or as high as it is wide. */
const NARROWEST = 0.25;

/**
 * One veiled frame. The veil is the resting state of the style sheet, so that a picture which has only just arrived can
 * never be seen without it; `show(true)` lifts it and `show(false)` lets it fall.
 */
export class Veil {
  #shown = false;
  #ready = false;

  /** `use`: `stage` or `thumb`. `testid` marks the img. `width` and `height` keep its place before it is there. */
  constructor({ use, width, height, alt, testid, regions = [] }) {
    this.alt = alt;
    this.testid = testid;
    this.boxes = h("div", { class: "veil-boxes", "aria-hidden": "true" }, regions.map(box));
    this.inner = h("div", { class: "veil-inner" });
    this.node = h("div", { class: `veil veil-${use} is-loading` }, this.inner, this.boxes);
    this.#fit(width > 0 && height > 0 ? width / height : 1);
    // A tiny picture is enlarged no further than three times: more shows blocks, not more.
    if (width > 0) this.node.style.setProperty("--widest", `${Math.max(240, width * 3)}px`);
  }

  /** Give the frame the picture's shape, within reason, and lay the boxes over the picture, not over the frame. */
  #fit(shape) {
    const ratio = Math.min(NARROWEST ** -1, Math.max(NARROWEST, shape));
    this.node.style.setProperty("--ratio", String(ratio));
    const wide = Math.min(1, shape / ratio);
    const high = Math.min(1, ratio / shape);
    this.boxes.style.inset = `${((1 - high) / 2) * 100}% ${((1 - wide) / 2) * 100}%`;
  }

  get shown() {
    return this.#shown;
  }

  picture(url) {
    if (!styleIsHere()) {
      this.placeholder("The console’s style sheet did not load, so pictures stay hidden. Load the page again.");
      return;
    }
    const image = h("img", {
      class: "veil-picture",
      alt: this.alt,
      draggable: "false",
      decoding: "async",
      "data-testid": this.testid,
    });
    image.addEventListener("error", () => this.placeholder("This browser cannot show a picture of this format."));
    // The picture itself knows its shape best: what was told of it may be missing or of an earlier upload.
    image.addEventListener("load", () => image.naturalWidth > 0 && this.#fit(image.naturalWidth / image.naturalHeight));
    image.src = url;
    put(this.inner, image);
    this.#ready = true;
    this.node.classList.remove("is-loading");
  }

  /** Show words in the picture's place. `again`: what a button there does. */
  placeholder(words, again = null) {
    this.show(false);
    this.#ready = false;
    this.node.classList.remove("is-loading");
    this.node.classList.add("is-empty");
    put(
      this.inner,
      h(
        "div",
        { class: "veil-words", "data-testid": "no-preview" },
        icon("nopicture"),
        h("p", { class: "veil-words-title", text: "No picture to show" }),
        h("p", { text: words }),
        again && h("button", { type: "button", class: "button button-quiet", on: { click: again } }, "Try again"),
      ),
    );
  }

  /** Follow a Preview until it is there or is known to be missing. */
  async follow(preview, again = null) {
    const found = await preview.ready;
    if (found === null) return;
    if (found.url) this.picture(found.url);
    else this.placeholder(found.words, found.passing ? again : null);
  }

  show(on) {
    this.#shown = on && this.#ready;
    this.node.classList.toggle("is-shown", this.#shown);
  }
}

/** Whether the style sheet that veils is in force. */
function styleIsHere() {
  return getComputedStyle(document.documentElement).getPropertyValue("--veiled").trim() === "yes";
}

function box(region) {
  const node = h("span", { class: "veil-box" });
  node.style.left = `${region.left * 100}%`;
  node.style.top = `${region.top * 100}%`;
  node.style.width = `${(region.right - region.left) * 100}%`;
  node.style.height = `${(region.bottom - region.top) * 100}%`;
  return node;
}

/** Regions of every model, in one list. */
export function regionsOf(image) {
  return Object.values(image.regions ?? {}).flat();
}

/**
 * Let `node` be held with a pointer. `start` is called when the hold begins (after `delayMs`, so that a click stays a
 * click) and `end` when it is over, however it ends. Returns a function that says whether the last press was a hold.
 */
export function holdable(node, { start, end, delayMs = 0 }) {
  let timer = null;
  let holding = false;
  let held = false;
  const begin = () => {
    timer = null;
    holding = held = true;
    start();
  };
  const finish = () => {
    clearTimeout(timer);
    timer = null;
    if (!holding) return;
    holding = false;
    end();
  };
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button") !== (node.closest("button") ?? null)) return;
    held = false;
    // A captured pointer tells of its release wherever that happens. Links must not capture: their click would be lost.
    if (delayMs === 0) node.setPointerCapture(event.pointerId);
    if (delayMs === 0) begin();
    else timer = setTimeout(begin, delayMs);
  });
  for (const over of ["pointerup", "pointercancel", "lostpointercapture", "pointerleave"]) {
    node.addEventListener(over, finish);
  }
  // A long press on a touch screen would open the browser's menu with "save image".
  node.addEventListener("contextmenu", (event) => event.preventDefault());
  node.addEventListener("dragstart", (event) => event.preventDefault());
  window.addEventListener("blur", finish);
  return { wasHeld: () => held, stop: () => (finish(), window.removeEventListener("blur", finish)) };
}
