import { expect, test } from "vitest";

import { parse, to } from "./routing";

test("an address leads back to its parts, whatever is in a name", () => {
  for (const name of ["digits", "a/b", "50%", "ä ö", "?x=1#y"]) {
    expect(parse(to("models", name)).parts).toEqual(["models", name]);
  }
});

test("what is typed by hand is read, not refused", () => {
  expect(parse("").parts).toEqual([]);
  expect(parse("#/fleet/50%").parts).toEqual(["fleet", "50%"]);
  expect(parse("#/rollouts/new?model=digits").query.get("model")).toBe("digits");
});
