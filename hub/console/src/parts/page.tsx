// The head of a page: its title, which takes the focus when the reader comes to the page, and what stands beside it.

import { useEffect, useRef, type ReactNode } from "react";

import { arrive } from "./arrival";

interface PageProps {
  title: string;
  /** Beside the title: a state. */
  beside?: ReactNode;
  /** At the far end: buttons. */
  actions?: ReactNode;
  /** Above the title: the way back. */
  back?: { href: string; label: string };
  children: ReactNode;
}

export function Page({ title, beside, actions, back, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Edgewise`;
  }, [title]);
  useEffect(() => {
    arrive(heading.current);
    window.scrollTo(0, 0);
  }, []);
  return (
    <>
      {back && (
        <a className="back" href={back.href}>
          ← {back.label}
        </a>
      )}
      <div className="page-head">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {beside}
        {actions && <div className="page-actions">{actions}</div>}
      </div>
      {children}
    </>
  );
}

/** A titled part of a page. */
export function Section({ title, note, children }: { title: string; note?: ReactNode; children: ReactNode }) {
  return (
    <section className="section" aria-label={title}>
      <div className="section-head">
        <h2>{title}</h2>
        {note && <p className="section-note">{note}</p>}
      </div>
      {children}
    </section>
  );
}

/** Terms and their values. */
export function Facts({ items }: { items: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {items.map(([term, value]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
