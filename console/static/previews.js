// Previews of pictures: fetched ahead, a few at a time, kept while someone may look at them.

import { api, isLeft, Problem } from "./api.js";
import { problemWords, reasonWords } from "./words.js";

const AT_ONCE = 4;

let running = 0;
const waiting = [];

async function turn(signal) {
  if (running < AT_ONCE) {
    running += 1;
    return;
  }
  await new Promise((resolve, reject) => {
    const entry = { resolve };
    waiting.push(entry);
    signal?.addEventListener("abort", () => {
      const at = waiting.indexOf(entry);
      if (at >= 0) {
        waiting.splice(at, 1);
        reject(new DOMException("left", "AbortError"));
      }
    });
  });
}

function done() {
  const next = waiting.shift();
  // The place is handed on, so the count stays.
  if (next) next.resolve();
  else running -= 1;
}

/**
 * One preview under way. `ready` settles once and never rejects: {url} or {words, passing}, or null when it was
 * dropped.
 */
export class Preview {
  #leave = new AbortController();
  #url = null;

  constructor(image, use) {
    this.image = image;
    this.use = use;
    this.ready = this.#load();
  }

  async #load() {
    const { outcome, reason } = this.image;
    // What could not be decoded when it was scored has no picture to ask for.
    if (outcome !== "scored") return { words: noneWords(outcome, reason), passing: false };
    try {
      await turn(this.#leave.signal);
      try {
        const blob = await api.preview(this.image, this.use, this.#leave.signal);
        if (this.#leave.signal.aborted) return null;
        this.#url = URL.createObjectURL(blob);
        return { url: this.#url };
      } finally {
        done();
      }
    } catch (error) {
      if (isLeft(error)) return null;
      if (!(error instanceof Problem)) throw error;
      return { words: whyNone(error, outcome, reason), passing: error.passing };
    }
  }

  /** Let go of the picture; nothing shows it any more. */
  drop() {
    this.#leave.abort();
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }
}

function noneWords(outcome, reason) {
  if (outcome === "gone") return "The picture was deleted before it could be read.";
  return reasonWords(reason) || "The file cannot be shown as a picture.";
}

function whyNone(problem, outcome, reason) {
  if (problem.status === 404 && problem.code !== "removed_image") return "The picture is no longer in its bucket.";
  if (problem.status === 422) {
    return reasonWords(problem.code) || reasonWords(reason) || "The file cannot be shown as a picture.";
  }
  if (outcome === "rejected" && reason && !problem.passing) return reasonWords(reason);
  return problemWords(problem, "looking at this picture");
}
