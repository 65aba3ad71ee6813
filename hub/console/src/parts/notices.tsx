// What a page says when there is nothing, nothing yet, or something wrong.

import type { ReactNode } from "react";

import type { ApiError } from "../api/client";

/** There is nothing: says what to do next. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children && <p>{children}</p>}
    </div>
  );
}

/** One line of error. */
export function Trouble({ error }: { error: ApiError | undefined }) {
  return error ? (
    <p className="trouble" role="alert">
      {error.message}
    </p>
  ) : null;
}

/** Until the first answer. */
export function Loading() {
  return (
    <p className="loading" role="status">
      Loading…
    </p>
  );
}

/** A command to type. */
export function Command({ children }: { children: string }) {
  return <code className="command">{children}</code>;
}
