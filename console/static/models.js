// What /v1/models tells of thresholds, asked once. Without it the bars stand without their marks.

import { api, isLeft, Problem } from "./api.js";

let asked = null;

/** Model → label → threshold; empty when it cannot be had. */
export function knownThresholds() {
  asked ??= load();
  return asked;
}

async function load() {
  try {
    const answer = await api.models();
    const found = {};
    for (const model of answer.models ?? []) {
      const { name } = model;
      if (name && model.thresholds && typeof model.thresholds === "object") found[name] = model.thresholds;
    }
    return found;
  } catch (error) {
    if (!(error instanceof Problem) && !isLeft(error)) throw error;
    asked = null;
    return {};
  }
}
