// Decisions on their way. One that a moderator has made is sent until it is taken or refused, whatever page is open by
// then.

import { api, Problem } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const GIVE_UP_MS = 120_000;

const LOOK_MS = 500;

class Outbox extends EventTarget {
  #pending = new Map();
  /** Who is signed in; a decision goes out only in the name of the one who made it. */
  owner = null;

  constructor() {
    super();
    // The last chance of what is still here: the same id, so the service counts it once if the first try arrived after
    // all.
    window.addEventListener("pagehide", () => {
      for (const { decision, owner } of this.#pending.values()) {
        if (owner === this.owner) api.decide(decision, { keepalive: true, quiet: true }).catch(() => {});
      }
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.stuck) event.preventDefault();
    });
  }

  get size() {
    return this.#pending.size;
  }

  /** Whether something waits for a service that does not answer. */
  get stuck() {
    return [...this.#pending.values()].some((entry) => entry.tries > 1);
  }

  /**
   * Send one decision, once `after` has settled. Resolves with the service's answer, rejects with the Problem that
   * refused it.
   */
  send(decision, after = null) {
    const entry = { decision, tries: 0, owner: this.owner };
    this.#pending.set(decision.decision_id, entry);
    this.#changed();
    return this.#persist(entry, after).finally(() => {
      this.#pending.delete(decision.decision_id);
      this.#changed();
    });
  }

  async #persist(entry, after) {
    if (after) await after.catch(() => {});
    let until = performance.now() + GIVE_UP_MS;
    for (;;) {
      while (this.owner !== entry.owner) {
        await pause(LOOK_MS);
        until = performance.now() + GIVE_UP_MS;
      }
      entry.tries += 1;
      if (entry.tries > 1) this.#changed();
      try {
        return await api.decide(entry.decision);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        // The session ended: it goes out when the same person has signed in again.
        const waits = error.passing || error.status === 401;
        if (!waits || performance.now() > until) throw error;
        const backoff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (entry.tries - 1));
        await pause(Math.max(error.retryAfterMs ?? 0, backoff) * (0.8 + Math.random() * 0.4));
      }
    }
  }

  /** Wait until everything is sent, at most so long; returns how many are left. */
  async drained(ms) {
    const until = performance.now() + ms;
    while (this.size > 0 && performance.now() < until) await pause(100);
    return this.size;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const outbox = new Outbox();
