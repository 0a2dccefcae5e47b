// The only place that speaks to the service. Every failure leaves here as a Problem, with words for people.

const PREVIEW_SIZES = { stage: 512, thumb: 320 };

/** What went wrong: an answer of application/problem+json, or none at all (`status` 0). */
export class Problem extends Error {
  constructor(status, body = {}, retryAfterMs = null) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.name = "Problem";
    this.status = status;
    this.code = body.code ?? "";
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    this.requestId = body.request_id ?? "";
    this.body = body;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same question may well be answered a little later. */
  get passing() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/** Told of every 401, except that of the sign-in itself; the shell shows the sign-in then. */
export const session = new EventTarget();

async function request(method, path, options = {}) {
  const { json, body, headers = {}, signal, timeoutMs = 20_000, keepalive = false, quiet = false } = options;
  const sent = new Headers({ Accept: "application/json", ...headers });
  if (method !== "GET") sent.set("X-Sightline-Console", "1");
  if (json !== undefined) sent.set("Content-Type", "application/json");
  const timer = new AbortController();
  const timeout = setTimeout(() => timer.abort(), timeoutMs);
  const leave = () => timer.abort();
  signal?.addEventListener("abort", leave, { once: true });
  if (signal?.aborted) timer.abort();
  try {
    const response = await fetch(path, {
      method,
      headers: sent,
      body: json === undefined ? body : JSON.stringify(json),
      signal: timer.signal,
      keepalive,
      credentials: "same-origin",
      redirect: "error",
    });
    if (response.ok) return options.read ? await options.read(response) : await payload(response);
    const problem = new Problem(response.status, await payload(response), retryAfter(response));
    if (problem.status === 401 && !quiet) session.dispatchEvent(new Event("ended"));
    throw problem;
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal?.aborted) throw new DOMException("left", "AbortError");
    const late = timer.signal.aborted;
    throw new Problem(0, {
      code: late ? "no_answer_in_time" : "no_connection",
      detail: error instanceof Error ? error.message : String(error),
    });
  } finally {
    clearTimeout(timeout);
    signal?.removeEventListener("abort", leave);
  }
}

async function payload(response) {
  if (response.status === 204) return {};
  try {
    const found = await response.json();
    return found !== null && typeof found === "object" && !Array.isArray(found) ? found : {};
  } catch {
    // A proxy's own error page; the status says enough.
    return {};
  }
}

function retryAfter(response) {
  const said = response.headers.get("Retry-After");
  if (!said) return null;
  const seconds = Number(said);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000);
  const at = Date.parse(said);
  return Number.isNaN(at) ? null : Math.max(0, at - Date.now());
}

/** Whether an error only says that its page was left meanwhile. */
export function isLeft(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * The path of an image. The key travels as one segment, so that slashes, dots and question marks in it stay part of it.
 * Two keys cannot be asked for by any browser: "." and "..", which it folds away even when encoded.
 */
function imagePath(bucket, key) {
  if (!bucket || !key) throw new Problem(404, { code: "unknown_image", detail: "an image has a bucket and a key" });
  if (key === "." || key === "..") {
    throw new Problem(404, {
      code: "unaskable_key",
      detail: `a browser cannot ask for the key ${key}; ./sightline explain can`,
    });
  }
  return `/v1/images/${segment(bucket)}/${segment(key)}`;
}

function segment(text) {
  return encodeURIComponent(text.toWellFormed ? text.toWellFormed() : text);
}

/** The console's own page of an image. */
export function imagePage(bucket, key) {
  return `/console/image?${new URLSearchParams({ bucket, key })}`;
}

/** A new name for one decision; `randomUUID` is there on secure origins alone. */
export function freshId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export const api = {
  session: () => request("GET", "/console/session", { quiet: true }),
  signIn: (key) => request("POST", "/console/session", { json: { key }, quiet: true }),
  signOut: () => request("DELETE", "/console/session", { quiet: true }),

  image: (bucket, key, /** @type {{wait?: number, signal?: AbortSignal}} */ { wait, signal } = {}) =>
    request("GET", imagePath(bucket, key) + (wait ? `?wait=${wait}s` : ""), { signal, timeoutMs: 40_000 }),
  history: (bucket, key, signal) => request("GET", `${imagePath(bucket, key)}/history`, { signal }),
  explain: (bucket, key, signal) => request("GET", `${imagePath(bucket, key)}/explain`, { signal, timeoutMs: 120_000 }),
  score: (file, signal) =>
    request("POST", "/v1/score", {
      body: file,
      headers: { "Content-Type": /^image\/[\w.+-]+$/.test(file.type) ? file.type : "application/octet-stream" },
      signal,
      timeoutMs: 60_000,
    }),

  decide: (decision, options = {}) =>
    request("POST", "/v1/decisions", {
      json: decision,
      headers: { "Idempotency-Key": decision.decision_id },
      timeoutMs: 10_000,
      ...options,
    }),

  queue: (signal) => request("GET", "/v1/queue", { signal }),
  lease: (count, actions, signal) =>
    request("POST", "/v1/queue/lease", { json: actions ? { count, actions } : { count }, signal }),
  renew: (leaseIds) => request("POST", "/v1/queue/renew", { json: { lease_ids: leaseIds } }),
  release: (leaseIds) =>
    request("POST", "/v1/queue/release", { json: { lease_ids: leaseIds }, keepalive: true, quiet: true }),
  flagged: (limit, actions, signal) => {
    const query = new URLSearchParams({ limit: String(limit) });
    if (actions) query.set("actions", actions.join(","));
    return request("GET", `/v1/flagged?${query}`, { signal });
  },
  operations: (signal) => request("GET", "/v1/operations", { signal }),
  models: (signal) => request("GET", "/v1/models", { signal, quiet: true }),

  /** The bytes of a preview. Fetched, not linked: only so does the page learn why there is none. */
  preview({ bucket, key, upload_id: upload }, use, signal) {
    // With the upload in its address, what a browser keeps is never shown for a later one.
    return request(
      "GET",
      `${imagePath(bucket, key)}/preview?size=${PREVIEW_SIZES[use]}&upload=${encodeURIComponent(upload)}`,
      {
        headers: { Accept: "image/jpeg" },
        read: (response) => response.blob(),
        signal,
      },
    );
  },
};

/**
 * The image once it is no longer under way; null where `signal` ended it or `waiting(found)`, which draws, gave up by
 * false.
 */
export async function untilScored(bucket, key, { wait, signal, waiting }) {
  let found = await api.image(bucket, key, { signal });
  while (found.status === "under_way") {
    if (waiting(found) === false) return null;
    const began = performance.now();
    found = await api.image(bucket, key, { wait, signal });
    // A service that does not wait must not be asked in a whirl.
    if (found.status === "under_way" && performance.now() - began < 1000) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    if (signal.aborted) return null;
  }
  return found;
}
