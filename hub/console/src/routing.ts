// Where the reader is, kept in the address after "#".
//
// Ours, since it is forty lines; after "#", since then every address of the console is the one file index.html, whoever
// serves it and wherever.

import { useSyncExternalStore } from "react";

export interface Route {
  /** The decoded parts of the path: "#/rollouts/7f3" is ["rollouts", "7f3"]. */
  parts: string[];
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

/** The address of a place: `to("models", "digits")` is "#/models/digits". */
export function to(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(address: string): void {
  window.location.hash = address;
}

export function useRoute(): Route {
  return parse(useSyncExternalStore(subscribe, () => window.location.hash));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray "%" typed by hand
  }
}
