import { expect, test } from "vitest";

import { reuse } from "./reuse";

const before = [
  { id: "a", groups: ["x"], online: true },
  { id: "b", groups: ["y"], online: true },
];

test("what did not change is the same thing", () => {
  expect(reuse(before, structuredClone(before))).toBe(before);
});

test("only what changed is new", () => {
  const after = reuse(before, [structuredClone(before[0]), { ...structuredClone(before[1]), online: false }]);
  expect(after).not.toBe(before);
  expect(after[0]).toBe(before[0]);
  expect(after[1]).toEqual({ id: "b", groups: ["y"], online: false });
});

test("things are known by their id, wherever they moved", () => {
  const after = reuse(before, structuredClone([before[1], before[0]]));
  expect(after[0]).toBe(before[1]);
  expect(after[1]).toBe(before[0]);
});

test("a value that went or came is seen", () => {
  expect(reuse({ a: 1, b: 2 }, { a: 1 })).toEqual({ a: 1 });
  expect(reuse({ a: 1 }, { a: 1, b: undefined })).toHaveProperty("b");
  expect(reuse([1, 2, 3], [1, 2])).toEqual([1, 2]);
  expect(reuse(null, { a: 1 })).toEqual({ a: 1 });
});
