import { describe, expect, it } from "vitest";

import type { Experiment } from "../api/types";
import { effectWords, EMPTY_FORM, itemsWords, knownWords, marginWords, readPolicy, shownState, versionsWords } from "./words";

const EXPERIMENT = {
  metric: "accuracy",
  state: "ended",
  decision: "candidate-wins",
  control: 1,
  candidate: 2,
  effect: 0.05,
  low: 0.01,
  high: 0.09,
  items: { control: 900, candidate: 120 },
  min_samples: 200,
} as unknown as Experiment;

describe("an experiment in words", () => {
  it("gives effects in their own unit, with a sign", () => {
    expect(effectWords("accuracy", 0.021)).toBe("+2.1 points");
    expect(effectWords("accuracy", -0.021)).toBe("−2.1 points");
    expect(effectWords("latency", -0.25)).toBe("−25% speed");
    expect(effectWords("agreement", -0.28)).toBe("72.0% agree");
    expect(effectWords("reward", 0.125)).toBe("+0.125 wins a request");
  });

  it("withholds what a broken split gave, and says where nothing is known", () => {
    expect(knownWords(EXPERIMENT)).toBe("+5.0 points (+1.0 to +9.0)");
    expect(knownWords({ ...EXPERIMENT, decision: "broken" })).toBe("withheld");
    expect(knownWords({ ...EXPERIMENT, effect: null, low: null, high: null })).toBe("nothing yet");
  });

  it("counts the smaller arm, and names a server", () => {
    expect(itemsWords(EXPERIMENT)).toBe("120 of 200 items");
    expect(itemsWords({ ...EXPERIMENT, min_samples: 100 })).toBe("120 items");
    expect(itemsWords({ items: {}, min_samples: 5 })).toBe("0 of 5 items");
    expect(marginWords({ metric: "accuracy", margin: 0.01 })).toBe("±1.0 points");
    expect(marginWords({ metric: "agreement", margin: 0.02 })).toBe("2% apart");
    expect(versionsWords(EXPERIMENT)).toBe("v2 against v1");
    expect(versionsWords({ candidate: null, control: 3 })).toBe("a server against v3");
  });

  it("is shown as running, or as what was decided", () => {
    expect(shownState({ state: "running", decision: "continue" })).toBe("running");
    expect(shownState({ state: "ended", decision: "guardrail" })).toBe("guardrail");
  });
});

describe("the form of an experiment", () => {
  it("asks for the policy of its kind, shares in percent", () => {
    expect(readPolicy(EMPTY_FORM)).toEqual({ kind: "shadow", share: 1 });
    expect(readPolicy({ ...EMPTY_FORM, kind: "ab", share: "30", by: "device" })).toEqual({
      kind: "ab",
      weight: 0.3,
      by: "device",
    });
    expect(readPolicy({ ...EMPTY_FORM, kind: "canary-requests" })).toEqual({ kind: "canary-requests", share: 0.05 });
    expect(readPolicy({ ...EMPTY_FORM, kind: "interleave", output: "scores" })).toEqual({
      kind: "interleave",
      output: "scores",
    });
    expect(readPolicy({ ...EMPTY_FORM, kind: "escalate", url: "https://s", serverModel: "m" })).toMatchObject({
      kind: "escalate",
      threshold: 0.6,
    });
  });
});
