// A field of a form: its label above, its unit or note below.

import { useId, type ReactNode } from "react";

interface FieldProps {
  title: string;
  note?: string;
  /** The control; it takes the id that its label names. */
  children: (id: string) => ReactNode;
}

export function Field({ title, note, children }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{title}</label>
      {children(id)}
      {note && <span className="muted">{note}</span>}
    </div>
  );
}
