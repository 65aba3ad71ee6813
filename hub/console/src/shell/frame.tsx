// What stands around every page: the way past it, the navigation, the live mark, signing out.

import { useRef, useState, useSyncExternalStore, type ReactNode } from "react";

import { ApiError, NO_ANSWER, signOut } from "../api/client";
import { live, type Connection } from "../api/live";
import { useAll, useHubAnswers } from "../api/resource";
import type { Alert, Experiment, Rollout } from "../api/types";
import { count } from "../format";
import { Trouble } from "../parts/notices";
import { to, type Route } from "../routing";

interface FrameProps {
  route: Route;
  onSignedOut: () => void;
  children: ReactNode;
}

export function Frame({ route, onSignedOut, children }: FrameProps) {
  const main = useRef<HTMLElement>(null);
  const [error, setError] = useState<ApiError>();
  const alerts = useAll<Alert>("/alerts?open=true", ["alert"]).data?.length ?? 0;
  const running = useAll<Rollout>("/rollouts?state=running", ["rollout"]).data?.length ?? 0;
  const comparing = useAll<Experiment>("/experiments?state=running", ["experiment"]).data?.length ?? 0;
  const answers = useHubAnswers();
  const place = route.parts[0] ?? "fleet";

  async function leave(): Promise<void> {
    try {
      await signOut();
      onSignedOut();
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    }
  }

  return (
    <>
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault(); // what follows "#" is the page
          main.current?.focus();
        }}
      >
        Skip to the page
      </a>
      <header className="top">
        <a className="brand" href={to("fleet")}>
          <Logo /> Edgewise
        </a>
        <nav className="nav" aria-label="Main">
          <NavLink to="fleet" at={place} title="Fleet" />
          <NavLink to="models" at={place} title="Models" />
          <NavLink to="rollouts" at={place} title="Rollouts" badge={running} badgeLabel={`${running} running`} />
          <NavLink to="experiments" at={place} title="Experiments" badge={comparing} badgeLabel={`${comparing} running`} />
          <NavLink to="drift" at={place} title="Drift" badge={alerts} badgeLabel={count(alerts, "open alert")} bad />
        </nav>
        <LiveMark />
        <button type="button" className="button quiet sign-out" onClick={() => void leave()}>
          Sign out
        </button>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Trouble error={error} />
        {!answers && (
          <p className="trouble" role="alert">
            {NO_ANSWER} Trying again; what is shown is the last that was heard.
          </p>
        )}
        {children}
      </main>
    </>
  );
}

interface NavLinkProps {
  to: string;
  at: string;
  title: string;
  badge?: number;
  badgeLabel?: string;
  bad?: boolean;
}

function NavLink({ to: place, at, title, badge = 0, badgeLabel = "", bad = false }: NavLinkProps) {
  return (
    <a href={to(place)} aria-current={place === at ? "page" : undefined}>
      {title}
      {badge > 0 && (
        <>
          {" "}
          <span className={bad ? "count bad" : "count"} title={badgeLabel}>
            <span aria-hidden="true">{badge}</span>
            <span className="unseen">({badgeLabel})</span>
          </span>
        </>
      )}
    </a>
  );
}

const CONNECTION_WORDS: Record<Connection, string> = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
};

function LiveMark() {
  const connection = useSyncExternalStore(live.watch, () => live.connection);
  return (
    <p className={`live ${connection}`} role="status" aria-live="polite" aria-label="Connection">
      <span className="live-dot" aria-hidden="true" />
      {CONNECTION_WORDS[connection]}
    </p>
  );
}

/** One in, many out. */
export function Logo() {
  return (
    <svg className="logo" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M7 12 17 5M7 12h10M7 12l10 7" />
      <circle cx="5.5" cy="12" r="3.5" />
      <circle cx="18.5" cy="4.5" r="2.4" />
      <circle cx="19" cy="12" r="2.4" />
      <circle cx="18.5" cy="19.5" r="2.4" />
    </svg>
  );
}
