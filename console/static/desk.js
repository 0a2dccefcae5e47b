// The desk of one moderator: images leased ahead, in the queue's order, and what was decided of late. Knows no page.

import { api, freshId, isLeft, Problem } from "./api.js";
import { outbox } from "./outbox.js";
import { Preview } from "./previews.js";

const AHEAD = 3;
const MOST_LEASES = 5;
const RENEW_MS = 20_000;
const EMPTY_MS = 5_000;
const REMEMBERED = 20;

/**
 * Events: `change` (the image in front, or what there is to say), `said` (detail: {kind, …}: `failed`, `lost`,
 * `undone`, `sent`). `state`: `loading`, `working`, `empty`, `elsewhere` (all that waits is leased by others), `broken`
 * (with `problem`).
 */
export class Desk extends EventTarget {
  items = [];
  state = "loading";
  problem = null;
  waiting = 0;

  #actions;
  #parked = [];
  /** Upload id → {by: its last decision, at: when that was taken, null before}. */
  #decided = new Map();
  #past = [];
  #passed = new Set();
  #filling = null;
  #again = false;
  #closed = false;
  #timers = [];
  #retry = null;

  constructor(actions) {
    super();
    this.#actions = actions;
    this.#timers.push(setInterval(() => this.#renew(), RENEW_MS));
    this.#timers.push(setInterval(() => this.#lookAgain(), EMPTY_MS));
    document.addEventListener("visibilitychange", this.#seen);
    window.addEventListener("pagehide", this.#hidden);
    window.addEventListener("pageshow", this.#back);
  }

  get front() {
    return this.items[0] ?? null;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  /** Fill the desk up to three images ahead. Calls made meanwhile are answered by one more round. */
  async refill() {
    if (this.#closed) return;
    if (this.#filling) {
      this.#again = true;
      await this.#filling;
      return;
    }
    do {
      this.#again = false;
      this.#filling = this.#lease();
      await this.#filling;
      this.#filling = null;
    } while (this.#again && !this.#closed);
  }

  async #lease() {
    const began = performance.now();
    const parked = this.#parked;
    const busy = [...this.#decided.values()].filter(({ at }) => at === null).length;
    const count = Math.min(MOST_LEASES, AHEAD + busy + parked.length);
    let answer;
    try {
      answer = await api.lease(count, this.#actions);
    } catch (error) {
      if (isLeft(error)) return;
      if (!(error instanceof Problem)) throw error;
      this.problem = error;
      if (this.items.length === 0) this.state = "broken";
      this.#changed();
      if (error.passing) this.#later(error.retryAfterMs ?? 3000);
      return;
    }
    if (this.#closed) {
      this.#free(answer.leases.map((lease) => lease.lease_id));
      return;
    }
    this.problem = null;
    const fresh = [];
    for (const lease of answer.leases ?? []) {
      const id = lease.image.upload_id;
      if (parked.some((item) => item.id === id)) continue;
      if (this.#decided.has(id)) {
        // Its decision is on its way, or arrived while the service was answering: this lease ends by itself.
        const { at } = this.#decided.get(id);
        if (at === null || at >= began) continue;
        this.#decided.delete(id);
      }
      const known = this.items.find((item) => item.id === id);
      if (known) known.adopt(lease);
      else fresh.push(new Item(lease));
    }
    // What was passed over comes last, or it would be back at once.
    fresh.sort((one, other) => Number(this.#passed.has(one.id)) - Number(this.#passed.has(other.id)));
    for (const item of fresh) item.seenBefore = this.#passed.has(item.id);
    this.items.push(...fresh);
    if (parked.length) {
      this.#parked = this.#parked.filter((item) => !parked.includes(item));
      this.#free(parked.map((item) => item.leaseId));
    }
    this.waiting = answer.waiting ?? 0;
    if (this.items.length) this.state = "working";
    else if (this.waiting === 0) this.state = "empty";
    // What waits may be one's own, whose decision has not arrived: who has it is known then.
    else this.state = busy > 0 ? "loading" : "elsewhere";
    this.#changed();
  }

  /** Decide on the image in front; the next one is in front at once. */
  decide(decision, reason) {
    const item = this.items.shift();
    if (!item) return null;
    const body = {
      decision_id: freshId(),
      bucket: item.image.bucket,
      key: item.image.key,
      decision,
      reason: reason ?? "",
      ...(item.image.flag ? { flag_id: item.image.flag.flag_id } : {}),
    };
    const entry = { item, body, sent: null, decisionId: null };
    item.error = null;
    this.#decided.set(item.id, { by: entry, at: null });
    this.#past.push(entry);
    while (this.#past.length > REMEMBERED) this.#past.shift().item.preview.drop();
    // Of one image, decisions arrive in the order in which they were made.
    const sent = outbox.send(body, item.last);
    item.last = sent;
    entry.sent = sent.then(
      (answer) => this.#taken(entry, answer),
      (error) => this.#refused(entry, error),
    );
    if (this.items.length === 0) this.state = "loading";
    this.#changed();
    this.refill();
    return item;
  }

  #taken(entry, answer) {
    const { item } = entry;
    // The service gives a decision its own name; this one is what a reversal names.
    entry.decisionId = answer.decision_id;
    // One that was undone and decided anew meanwhile waits for its newer decision.
    const known = this.#decided.get(item.id);
    if (known?.by === entry) known.at = performance.now();
    this.#tell("sent", { item, decision: entry.body.decision });
    if (this.items.length === 0) this.refill();
    return true;
  }

  #refused(entry, error) {
    const { item, body } = entry;
    if (!(error instanceof Problem)) throw error;
    this.#past = this.#past.filter((one) => one !== entry);
    if (this.#decided.get(item.id)?.by === entry) this.#decided.delete(item.id);
    if (
      !this.#past.some((one) => one.item === item) &&
      error.code !== "removed_image" &&
      error.code !== "unknown_image"
    ) {
      item.error = { problem: error, decision: body.decision };
      this.#toFront(item);
    }
    this.#tell("failed", { item, decision: body.decision, problem: error });
    this.#changed();
    return false;
  }

  /** Take back the last decision; its image is in front again at once. */
  async undo() {
    const entry = this.#past.pop();
    if (!entry) return;
    const { item, body } = entry;
    item.undone = body.decision;
    this.#toFront(item);
    this.#tell("undone", { item, decision: body.decision });
    this.#changed();
    const reversal = {
      decision_id: freshId(),
      bucket: body.bucket,
      key: body.key,
      decision: "skip",
      reason: "undo",
      ...(body.flag_id ? { flag_id: body.flag_id } : {}),
    };
    // What was refused needs no taking back: its image has returned already.
    const sent = entry.sent.then((taken) => (taken ? outbox.send({ ...reversal, reverses: entry.decisionId }) : null));
    item.last = sent;
    try {
      if ((await sent) === null) return;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (this.#past.some((one) => one.item === item)) return;
      this.items = this.items.filter((one) => one !== item);
      // One that was refused for good would stand before all earlier ones for ever.
      if (error.passing) this.#past.push(entry);
      this.#decided.set(item.id, { by: entry, at: performance.now() });
      this.#tell("failed", { item, decision: "undo", problem: error });
      this.#changed();
      return;
    }
    if (!this.#past.some((one) => one.item === item)) this.#decided.delete(item.id);
    this.#tell("sent", { item, decision: "undo" });
    this.refill();
  }

  /** Put the image in front back into the queue, undecided, and go on. */
  pass() {
    const item = this.items.shift();
    if (!item) return;
    this.#passed.add(item.id);
    item.preview.drop();
    if (item.leaseId) this.#parked.push(item);
    if (this.items.length === 0) this.state = "loading";
    this.#changed();
    this.refill();
  }

  /** Work on other actions from now on. */
  filter(actions) {
    this.#actions = actions;
    const leaving = this.items.filter((item) => actions && !actions.includes(item.image.flag?.action));
    this.items = this.items.filter((item) => !leaving.includes(item));
    this.#free(leaving.map((item) => item.leaseId));
    for (const item of leaving) item.preview.drop();
    if (this.items.length === 0) this.state = "loading";
    this.#changed();
    this.refill();
  }

  /** Give everything back. Decisions on their way stay with the outbox. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    clearTimeout(this.#retry);
    document.removeEventListener("visibilitychange", this.#seen);
    window.removeEventListener("pagehide", this.#hidden);
    window.removeEventListener("pageshow", this.#back);
    this.#hidden();
    for (const { item } of this.#past) item.preview.drop();
  }

  #hidden = () => {
    this.#free([...this.items, ...this.#parked].map((item) => item.leaseId));
    for (const item of this.items) item.preview.drop();
    this.items = [];
    this.#parked = [];
  };

  #back = (event) => {
    // Come back by the browser's own history, with all of this still in memory but the leases gone.
    if (!event.persisted) return;
    this.state = "loading";
    this.#changed();
    this.refill();
  };

  #seen = () => {
    if (document.visibilityState === "visible") this.#renew();
  };

  #toFront(item) {
    if (this.#closed) return;
    this.items = [item, ...this.items.filter((one) => one.id !== item.id)];
    this.state = "working";
  }

  async #renew() {
    // Also what is decided and still on its way: nobody else shall decide on it meanwhile.
    const underWay = [...this.#decided.values()].filter(({ at }) => at === null).map(({ by }) => by.item);
    const held = [...new Set([...this.items, ...this.#parked, ...underWay])].filter((item) => item.leaseId);
    if (this.#closed || held.length === 0 || document.visibilityState !== "visible") return;
    let lost;
    try {
      lost = (await api.renew(held.map((item) => item.leaseId))).lost ?? [];
    } catch (error) {
      // A lease outlives a few missed renewals; the next one tells.
      if (error instanceof Problem || isLeft(error)) return;
      throw error;
    }
    if (this.#closed || lost.length === 0) return;
    for (const item of held) if (lost.includes(item.leaseId)) item.leaseId = null;
    this.#parked = this.#parked.filter((item) => item.leaseId);
    const front = this.front;
    const gone = this.items.filter((item) => item !== front && !item.leaseId && !this.#decided.has(item.id));
    this.items = this.items.filter((item) => !gone.includes(item));
    for (const item of gone) item.preview.drop();
    await this.refill();
    if (front && front === this.front && !front.leaseId && !this.#decided.has(front.id)) {
      front.lost = true;
      this.#tell("lost", { item: front });
      this.#changed();
    }
  }

  #lookAgain() {
    if (document.visibilityState === "visible" && (this.state === "empty" || this.state === "elsewhere")) this.refill();
  }

  #later(ms) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.refill(), ms);
  }

  #free(leaseIds) {
    const ids = leaseIds.filter(Boolean);
    // Leases end by themselves; giving them back only spares the others the wait.
    if (ids.length) api.release(ids).catch(() => {});
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #tell(kind, more) {
    this.dispatchEvent(new CustomEvent("said", { detail: { kind, ...more } }));
  }
}

/** One image on the desk. `id` is its upload's: the key alone would confuse it with what was there before. */
class Item {
  error = null;
  lost = false;
  undone = null;
  seenBefore = false;
  /** The last decision under way. */
  last = null;

  constructor(lease) {
    this.image = lease.image;
    this.id = lease.image.upload_id;
    this.waitingSeconds = lease.waiting_seconds;
    this.leaseId = lease.lease_id;
    this.preview = new Preview(lease.image, "stage");
  }

  adopt(lease) {
    this.leaseId = lease.lease_id;
    this.lost = false;
  }

  reload() {
    this.preview.drop();
    this.preview = new Preview(this.image, "stage");
  }
}
