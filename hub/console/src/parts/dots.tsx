// A dot a device. One tab stop a cluster; the arrow keys move inside it. Each dot is a labelled link.

import { memo, useRef, useState, type KeyboardEvent } from "react";

import { Mark, type StateName } from "./marks";

export interface Dot {
  key: string;
  href: string;
  state: StateName;
  /** Name and state in words: read out, and shown on hover and focus. */
  label: string;
}

const STEPS: Record<string, number> = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export function Dots({ label, dots }: { label: string; dots: readonly Dot[] }) {
  const list = useRef<HTMLUListElement>(null);
  const [at, setAt] = useState(0);
  const current = Math.min(at, dots.length - 1);

  function onKeyDown(event: KeyboardEvent): void {
    const step = STEPS[event.key];
    const target = step ? current + step : event.key === "Home" ? 0 : event.key === "End" ? dots.length - 1 : -1;
    if (target < 0 || target >= dots.length) return;
    event.preventDefault();
    setAt(target);
    list.current?.querySelectorAll("a")[target]?.focus();
  }

  const density = dots.length > 100 ? "dense" : dots.length > 40 ? "medium" : "roomy";
  return (
    <ul ref={list} className={`dots ${density}`} aria-label={label} onKeyDown={onKeyDown}>
      {dots.map((dot, index) => (
        <DotLink key={dot.key} href={dot.href} state={dot.state} label={dot.label} reachable={index === current} />
      ))}
    </ul>
  );
}

interface DotLinkProps {
  href: string;
  state: StateName;
  label: string;
  reachable: boolean;
}

const DotLink = memo(function DotLink({ href, state, label, reachable }: DotLinkProps) {
  return (
    <li>
      <a className="dot" href={href} tabIndex={reachable ? 0 : -1} aria-label={label} data-tip={label}>
        <Mark state={state} />
      </a>
    </li>
  );
});
