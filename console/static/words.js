// Codes in words, and numbers as people read them.

export const ACTIONS = ["block", "review", "notify"];

const ACTION_WORDS = { block: "Block", review: "Review", notify: "Notify", advise: "Advise", none: "Nothing to do" };
const OUTCOME_WORDS = { scored: "Scored", rejected: "Rejected", gone: "Gone" };
const DECISION_WORDS = { approve: "Approved", reject: "Rejected", skip: "Skipped" };

/** The reasons for a rejection that a person may give, in the order of their keys 1 to 9. */
export const REJECT_REASONS = [
  { code: "nudity", words: "Nudity" },
  { code: "violence", words: "Violence" },
  { code: "contact_details", words: "Contact details" },
  { code: "advertising", words: "Advertising" },
  { code: "hate", words: "Hate" },
  { code: "counterfeit", words: "Counterfeit" },
  { code: "weapons_or_drugs", words: "Weapons or drugs" },
  { code: "harmful_file", words: "Harmful file" },
  { code: "other", words: "Other" },
];

const REASON_WORDS = {
  empty: "The object holds no bytes.",
  too_many_bytes: "The file is larger than the limit.",
  too_many_pixels: "The picture has more pixels than the limit; such files are made to exhaust a decoder.",
  too_large_side: "One side of the picture is beyond the limit.",
  too_many_frames: "The animation has more frames than the limit.",
  too_complex: "A JPEG of more than 100 scans; such files are made to exhaust a decoder.",
  unsupported_format: "Not one of the picture formats that are read here.",
  undecodable: "The file announces a picture format and does not keep to it.",
  truncated: "The file ends before any of the picture could be read.",
  decode_timeout: "The picture could not be decoded in the time allowed.",
  decoder_crashed: "Decoding it ended the decoder's process; such files are made to harm one.",
  too_much_memory: "Decoding it takes more memory than the limit.",
  too_many_renditions: "It would have to be looked at in more parts than the limit.",
  archived: "The store holds it in an archive tier.",
  forbidden: "The store does not let this object be read.",
  deleted: "Deleted from the bucket before it could be read.",
  unreadable: "The file could not be read.",
};

const ADVICE_WORDS = {
  blurry: "Blurred: hold the camera still, tap to focus, take it again.",
  dark: "Too dark: take it by daylight near a window.",
  overexposed: "Too bright: avoid the flash and direct sun.",
  noisy: "Grainy: more light gives a cleaner picture.",
  overcompressed: "Compressed too far: upload the original file.",
  low_contrast: "Washed out: clean the lens, use a plainer background.",
  low_resolution: "Too small: upload it in its full size.",
  embedded_text: "Text lies over the picture: upload the photograph without it.",
  truncated: "The file is cut off: upload the whole file.",
  nsfw: "Looks like nudity: show the object alone.",
};

const MODEL_WORDS = {
  nsfw: "Nudity",
  category: "Category",
  quality: "Photo quality",
  embedded_text: "Text over the picture",
  text_gate: "Text gate",
};

/** Turn `too_many_pixels` into `Too many pixels`. */
export function plain(code) {
  const text = String(code ?? "")
    .replace(/[_]+/g, " ")
    .trim();
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

export const actionWords = (action) => ACTION_WORDS[action] ?? plain(action);
export const outcomeWords = (outcome) => OUTCOME_WORDS[outcome] ?? plain(outcome);
export const decisionWords = (decision) => DECISION_WORDS[decision] ?? plain(decision);
export const modelWords = (model) => MODEL_WORDS[model] ?? plain(model);
export const reasonWords = (code) => REASON_WORDS[code] ?? (code ? `${plain(code)}.` : "");
export const adviceWords = (code) =>
  ADVICE_WORDS[String(code).split(".").pop()] ?? plain(String(code).split(".").pop());

/** The words for a reason that a person or a rule gave. */
export function decisionReason(reason) {
  if (!reason) return "";
  const known = REJECT_REASONS.find((one) => one.code === reason);
  return known ? known.words.toLowerCase() : reason;
}

/** Say what went wrong and what to do now. `what` names the thing that was asked for. */
export function problemWords(problem, what = "this") {
  const wait = problem.retryAfterMs
    ? ` Try again in ${seconds(Math.ceil(problem.retryAfterMs / 1000))}.`
    : " Try again in a moment.";
  switch (problem.status) {
    case 0:
      return problem.code === "no_answer_in_time"
        ? `The service took too long to answer for ${what}. Try again.`
        : "The service cannot be reached. Check the connection; the console tries again.";
    case 401:
      return "Your session has ended. Sign in again.";
    case 403:
      return `Your key does not allow ${what}.`;
    case 413:
      return "The file is too large: 10 MB is the most that is scored here.";
    case 429:
      return problem.code === "overloaded"
        ? `The models are busy with uploads.${wait}`
        : `Too many requests for this key.${wait}`;
    case 503:
      return `The service is not ready${problem.detail ? `: ${problem.detail}` : ""}.${wait}`;
    case 504:
      return `No answer in time.${wait}`;
    default:
      break;
  }
  if (problem.code === "unknown_image") {
    return "No image is known by this name. Check the bucket and the key; capitals count.";
  }
  if (problem.code === "removed_image") {
    const at = problem.body.removed_ms;
    return at
      ? `This image was removed from its bucket ${ago(at)} (${clock(at)}).`
      : "This image was removed from its bucket.";
  }
  if (problem.status === 422 && REASON_WORDS[problem.code]) return REASON_WORDS[problem.code];
  return problem.detail || problem.title || `The service answered ${problem.status} for ${what}.`;
}

const two = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (value) => (Number.isFinite(value) ? whole.format(value) : "–");
export const decimal = (value) => (Number.isFinite(value) ? one.format(value) : "–");
export const percent = (value) => (Number.isFinite(value) ? `${one.format(value * 100)} %` : "–");

/** A score, with a third digit only where two would hide on which side of a threshold it is. */
export function scoreText(value) {
  if (!Number.isFinite(value)) return "–";
  return (value > 0.9 && value < 1) || (value >= 0.0005 && value < 0.01) ? value.toFixed(3) : two.format(value);
}

export function bytes(value) {
  if (!Number.isFinite(value)) return "size unknown";
  if (value < 1000) return `${value} bytes`;
  return value < 1e6 ? `${one.format(value / 1e3)} kB` : `${one.format(value / 1e6)} MB`;
}

/** A span: `0.4 s`, `38 s`, `4 min`, `3 h`, `2 days`. */
export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 10 && !Number.isInteger(value)) return `${value < 1 ? two.format(value) : one.format(value)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  if (value < 129_600) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} days`;
}

export const milliseconds = (value) =>
  Number.isFinite(value) ? (value < 1000 ? `${Math.round(value)} ms` : seconds(value / 1000)) : "–";

export function ago(ms) {
  if (!Number.isFinite(ms)) return "at an unknown time";
  const passed = (Date.now() - ms) / 1000;
  return passed < 2 ? "just now" : `${seconds(Math.round(passed))} ago`;
}

/** Date and time where it is read, with seconds. */
export function clock(ms) {
  if (!Number.isFinite(ms)) return "–";
  return new Date(ms).toLocaleString(undefined, {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

export const hourMinute = (ms) => new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });

/** The name of a rule, as people read it. */
export const ruleWords = (rule) => plain(String(rule.rule).replace(/-/g, " "));
