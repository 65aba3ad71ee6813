// A modal dialog: the browser's own, which holds the focus in, closes on Escape and gives the focus back.

import { useId, useLayoutEffect, useRef, type ReactNode } from "react";

interface DialogProps {
  title: string;
  onClose: () => void;
  /** At the side, for reading, rather than in the middle, for deciding. */
  drawer?: boolean;
  children: ReactNode;
}

export function Dialog({ title, onClose, drawer = false, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  // A layout effect: its end comes while the dialog is still in the page, where closing it gives the focus back.
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      className={drawer ? "dialog drawer" : "dialog"}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) onClose(); // beside it: only the backdrop is the dialog itself
      }}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={heading}>{title}</h2>
          <button type="button" className="button quiet" onClick={onClose} aria-label="Close">
            <svg className="icon" viewBox="0 0 16 16" aria-hidden="true">
              <path d="m3.5 3.5 9 9m0-9-9 9" />
            </svg>
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
