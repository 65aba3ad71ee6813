// Requests to the hub.
//
// Rules: the session is an HttpOnly cookie that this code never sees; the CSRF token lives in memory only, goes with
// every request that changes something, and is asked for again when the hub refuses it; every failure is an ApiError
// whose message is one line that says what to do.

import type { Page, Problem, Session } from "./types";

const BASE = "/api/v1";
/** What to do where the hub cannot be reached. */
export const NO_ANSWER = "The hub does not answer: is `edgewise hub up` running?";

const PAGE_SIZE = 500;
/** No list is followed further than this: 10,000 things are more than a page can show. */
const MAX_PAGES = 20;

/** A request that failed. `status` is 0 where the hub did not answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

let csrf = "";
let signedOut: () => void = () => undefined;

/** What to do when the hub says that nobody is signed in any more. */
export function onSignedOut(listener: () => void): void {
  signedOut = listener;
}

/** Ask whether somebody is signed in; keeps the CSRF token. Throws ApiError 401 where nobody is. */
export async function readSession(): Promise<void> {
  csrf = (await send<Session>("GET", "/session")).csrf;
}

/** Exchange a one-time code for a session. */
export async function signIn(code: string): Promise<void> {
  csrf = (await send<Session>("POST", "/session", { code })).csrf;
}

/** End the session, here and on the hub. */
export async function signOut(): Promise<void> {
  await change<void>("DELETE", "/session");
  csrf = "";
}

export async function get<T>(path: string): Promise<T> {
  return watched(() => send<T>("GET", path));
}

/** Every page of a list. */
export async function getAll<T>(path: string): Promise<T[]> {
  const items: T[] = [];
  const joint = path.includes("?") ? "&" : "?";
  let cursor: string | null | undefined = "";
  for (let page = 0; page < MAX_PAGES && cursor != null; page++) {
    const from: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    const answer: Page<T> = await get(`${path}${joint}limit=${PAGE_SIZE}${from}`);
    items.push(...answer.items);
    cursor = answer.next;
  }
  return items;
}

/** A request that changes something. A refused CSRF token (another tab signed in since) is asked for again, once. */
export async function change<T>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
  return watched(async () => {
    try {
      return await send<T>(method, path, body);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "bad-csrf") throw error;
      await readSession();
      return send<T>(method, path, body);
    }
  });
}

async function watched<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) signedOut();
    throw error;
  }
}

async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      credentials: "same-origin",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, "no-answer", NO_ANSWER);
  }
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return undefined as T;
  try {
    return (await response.json()) as T;
  } catch {
    throw new ApiError(response.status, "bad-answer", "The hub's answer was cut off: try again.");
  }
}

async function problemOf(response: Response): Promise<ApiError> {
  const fallback = `The hub answered ${response.status}. Its log says more.`;
  try {
    const problem = (await response.json()) as Partial<Problem>;
    return new ApiError(response.status, problem.code ?? "unknown", problem.detail || problem.title || fallback);
  } catch {
    // Not JSON: a proxy's page, say.
    return new ApiError(response.status, "unknown", fallback);
  }
}
